package registrar

import (
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
)

// claims holds the process's registered entries, and the lease session of each. Adding an entry visits all service keys,
// but not all entries.
type claims struct {
	names   map[string]*claim   // by [Entry.names]
	leased  map[leaseKey]*claim // claims on shared sessions with an etcd key that contains the lease id
	tallies map[string]tally    // by service key
	listens map[string]int      // the number of entries with the environment's address, by the listener's address
}

// claim is one registered entry.
type claim struct {
	entry     Entry
	dedicated bool // the claim has its own session
}

// sessionKey identifies a lease session. Claims with the same TTL share a session unless they are dedicated.
type sessionKey struct {
	ttl   time.Duration
	owner *claim // nil if the session is shared
}

func (c *claim) session() sessionKey {
	if c.dedicated {
		return sessionKey{c.entry.TTL, c}
	}
	return sessionKey{c.entry.TTL, nil}
}

// leaseKey identifies an etcd key that contains the lease id of the shared session for ttl.
type leaseKey struct {
	ttl time.Duration
	key string // the service key
}

// tally counts the claims under a service key.
type tally struct{ all, suffixed int } // suffixed counts the claims in layout LEASE_SUFFIX

func newClaims() claims {
	return claims{
		names: make(map[string]*claim), leased: make(map[leaseKey]*claim), tallies: make(map[string]tally), listens: make(map[string]int),
	}
}

// add adds the claim of an entry. It returns an error if another entry has one of its names, or if readers could confuse the two.
func (c *claims) add(e Entry) (*claim, error) {
	if err := c.overlapping(e); err != nil {
		return nil, err
	}
	names := e.names()
	for _, name := range names {
		if first := c.names[name]; first != nil {
			return nil, fmt.Errorf("key %q is already registered by this process, as instance %q of %q in %v with a TTL of %v: close that registration first, or give this one another instance id or address",
				name, first.entry.Endpoint.Instance, first.entry.Key, first.entry.Layouts, first.entry.TTL)
		}
	}
	for listen := range c.listens {
		if e.listen != "" && e.listen != listen {
			return nil, fmt.Errorf("%s: address %q is already announced for the server that listens on %s, so it cannot be that of the server on %s: give each its own by WithAdvertiseAddress",
				advertise.EnvName, e.Endpoint.Addr, listen, e.listen)
		}
	}
	added := &claim{entry: e}
	c.place(added)
	for _, name := range names {
		c.names[name] = added
	}
	c.count(e, 1)
	return added, nil
}

// place puts a claim on the shared session for its TTL, or on a session of its own if two entries of one service key would have the
// lease id in their keys.
func (c *claims) place(added *claim) {
	at := leaseKey{added.entry.TTL, added.entry.Key}
	switch {
	case !slices.ContainsFunc(added.entry.Layouts, endpoint.Layout.LeaseInKey):
	case c.leased[at] == nil:
		c.leased[at] = added
	default:
		added.dedicated = true
	}
}

// remove removes a claim.
func (c *claims) remove(gone *claim) {
	for _, name := range gone.entry.names() {
		delete(c.names, name)
	}
	if at := (leaseKey{gone.entry.TTL, gone.entry.Key}); c.leased[at] == gone {
		delete(c.leased, at)
	}
	c.count(gone.entry, -1)
}

// count adds delta to the tallies of an entry.
func (c *claims) count(e Entry, delta int) {
	if c.listens[e.listen] += delta; e.listen == "" || c.listens[e.listen] == 0 {
		delete(c.listens, e.listen)
	}
	t := c.tallies[e.Key]
	if t.all += delta; e.suffixed() {
		t.suffixed += delta
	}
	if c.tallies[e.Key] = t; t.all == 0 {
		delete(c.tallies, e.Key)
	}
}

// overlapping returns an error if readers could mistake an entry for an entry of another key, or the reverse.
func (c *claims) overlapping(e Entry) (err error) {
	other, first := Entry{}, ""
	for key, t := range c.tallies {
		if other.Key, other.Layouts = key, nil; t.suffixed > 0 {
			other.Layouts = []endpoint.Layout{endpoint.LeaseSuffix}
		}
		if does := overlap(&e, &other); does != nil && (err == nil || key < first) {
			first, err = key, does
		}
	}
	return err
}
