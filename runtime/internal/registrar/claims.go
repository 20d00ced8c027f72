package registrar

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
)

// claims holds the entries that the process has registered, and which lease session each belongs on. Only an error takes a
// step over all of them.
type claims struct {
	names   map[string]*claim   // by [Entry.names]
	leased  map[leaseKey]*claim // those on shared sessions whose etcd key is the lease id
	tallies map[string]tally    // by service key
	listens map[string]int      // the number of entries at the environment's address, by the address of the listener
}

// claim is one registered entry.
type claim struct {
	entry     Entry
	dedicated bool // it has a session of its own
}

// sessionKey identifies a lease session. Claims of one TTL share one.
type sessionKey struct {
	ttl time.Duration
	of  *claim // nil: it is shared
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

// tally counts the claims that matter to a service key.
type tally struct {
	own, suffixed     int // under the key itself: all, and the ones in layout LEASE_SUFFIX
	nested, continued int // under longer keys, in the ways of [servicekey.Overlap]
}

func newClaims() claims {
	return claims{
		names: make(map[string]*claim), leased: make(map[leaseKey]*claim), tallies: make(map[string]tally), listens: make(map[string]int),
	}
}

// add claims the names of an entry. It is an error if readers could take them for another entry's.
func (c *claims) add(e Entry) (*claim, error) {
	if err := c.overlapping(e); err != nil {
		return nil, err
	}
	names := e.names()
	for _, name := range names {
		if first := c.names[name]; first != nil {
			return nil, fmt.Errorf("key %q is already registered by this process, as instance %q of %q in %v with a TTL of %v: close that first, or give this another instance id or address",
				name, first.entry.Endpoint.Instance, first.entry.Key, first.entry.Layouts, first.entry.TTL)
		}
	}
	for listen := range c.listens {
		if e.listen != "" && e.listen != listen {
			return nil, fmt.Errorf("%s: address %q is announced for the server that listens on %s, and so it is not that of the one on %s: give each its own by WithAdvertiseAddress",
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

// place puts a claim on the session that it belongs on: the one for its TTL, or one of its own where two entries
// would have the lease as their key.
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

// remove gives up a claim.
func (c *claims) remove(gone *claim) {
	for _, name := range gone.entry.names() {
		delete(c.names, name)
	}
	if at := (leaseKey{gone.entry.TTL, gone.entry.Key}); c.leased[at] == gone {
		delete(c.leased, at)
	}
	c.count(gone.entry, -1)
}

// count adds a number to the tallies that an entry matters to.
func (c *claims) count(e Entry, by int) {
	if c.listens[e.listen] += by; e.listen == "" || c.listens[e.listen] == 0 {
		delete(c.listens, e.listen)
	}
	add := func(key string, to func(*tally) *int) {
		t := c.tallies[key]
		*to(&t) += by
		if c.tallies[key] = t; t == (tally{}) {
			delete(c.tallies, key)
		}
	}
	add(e.Key, func(t *tally) *int { return &t.own })
	if e.suffixed() {
		add(e.Key, func(t *tally) *int { return &t.suffixed })
	}
	anyOuter(e.Key, func(key string, how servicekey.Overlap) bool {
		add(key, func(t *tally) *int {
			if how == servicekey.Nested {
				return &t.nested
			}
			return &t.continued
		})
		return false
	})
}

// overlapping returns an error if readers could take an entry for another key's, or another key's for one of this key.
func (c *claims) overlapping(e Entry) error {
	over := anyOuter(e.Key, func(key string, how servicekey.Overlap) bool {
		t := c.tallies[key]
		return t.own > 0 && how == servicekey.Nested || t.suffixed > 0
	})
	under := c.tallies[e.Key].nested > 0 || e.suffixed() && c.tallies[e.Key].continued > 0
	if !over && !under {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(c.tallies)) {
		t, other := c.tallies[key], Entry{Key: key}
		if t.suffixed > 0 {
			other.Layouts = []endpoint.Layout{endpoint.LeaseSuffix}
		}
		if err := overlap(&e, &other); t.own > 0 && err != nil {
			return err
		}
	}
	return nil
}

// anyOuter reports whether f is true of a prefix that a service key is nested under, or that it continues with a digit.
func anyOuter(key string, f func(prefix string, how servicekey.Overlap) bool) bool {
	for _, how := range []servicekey.Overlap{servicekey.Nested, servicekey.Continued} {
		if servicekey.Outer(key, how, func(prefix string) bool { return f(prefix, how) }) != "" {
			return true
		}
	}
	return false
}
