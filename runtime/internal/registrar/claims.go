package registrar

import (
	"fmt"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
)

// claims holds the process's registered entries, and the lease session of each. Adding one visits the service keys, but not
// the entries.
type claims struct {
	names   map[string]*claim   // by [Entry.names]
	leased  map[leaseKey]*claim // claims on shared sessions whose etcd key is the lease id
	tallies map[string]tally    // by service key
	listens map[string]int      // the number of entries at the environment's address, by the address of the listener
}

// claim is one registered entry.
type claim struct {
	entry     Entry
	dedicated bool // it has its own session
}

// sessionKey identifies a lease session. Claims of one TTL share one.
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

// leaseKey is an etcd key that is the lease id of a shared session.
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

// add claims the names of an entry. It is an error if readers could mistake them for another entry's.
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

// place puts a claim on its session: the shared one for its TTL, or its own if two entries would have the
// lease as their key.
func (c *claims) place(added *claim) {
	at := leaseKey{added.entry.TTL, added.entry.Key}
	switch {
	case !added.entry.leaseInKey():
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

// overlapping returns an error if readers could mistake an entry for one of another key, or the reverse.
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
