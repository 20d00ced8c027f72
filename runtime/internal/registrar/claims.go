package registrar

import (
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
)

// claims decides which entries of the process collide, and which share a lease
// session. The time to add an entry grows with the number of service keys, but
// not with the number of entries.
type claims struct {
	names map[string]*Entry // by [Entry.names]

	// entries on shared sessions with an etcd key that contains the lease id
	leased map[leaseKey]*Entry

	tallies map[string]tally // by service key

	// the number of entries with the environment's address, by the listener's
	// address
	listens map[string]int
}

// leaseKey identifies an etcd key that contains the lease id of the shared
// session for ttl.
type leaseKey struct {
	ttl time.Duration
	key string // the service key
}

// tally counts the entries under a service key: all of them, and those in
// layout LEASE_SUFFIX.
type tally struct{ all, suffixed int }

func newClaims() claims {
	return claims{
		names:   make(map[string]*Entry),
		leased:  make(map[leaseKey]*Entry),
		tallies: make(map[string]tally),
		listens: make(map[string]int),
	}
}

// add claims the names of an entry. It returns an error if another entry has
// one of the names, or if readers could confuse the two. dedicated reports
// whether the entry needs a session of its own: it does if another entry of its
// service key has the lease id of the shared session in its etcd key.
func (c *claims) add(e *Entry) (dedicated bool, err error) {
	if err := c.overlapping(e); err != nil {
		return false, err
	}

	names := e.names()
	for _, name := range names {
		if first := c.names[name]; first != nil {
			return false, fmt.Errorf(
				"key %q is already registered by this process, as instance %q of %q in %v with a TTL of %v: close that registration first, or give this one another instance id or address",
				name, first.Endpoint.Instance, first.Key, first.Layouts, first.TTL)
		}
	}

	for listen := range c.listens {
		if e.listen != "" && e.listen != listen {
			return false, fmt.Errorf(
				"%s: address %q is already announced for the server that listens on %s, so it cannot be that of the server on %s: give each its own by WithAdvertiseAddress",
				advertise.EnvName, e.Endpoint.Addr, listen, e.listen)
		}
	}

	for _, name := range names {
		c.names[name] = e
	}

	c.count(e, 1)

	at := leaseKey{e.TTL, e.Key}
	if slices.ContainsFunc(e.Layouts, endpoint.Layout.LeaseInKey) {
		dedicated = c.leased[at] != nil
		if !dedicated {
			c.leased[at] = e
		}
	}

	return dedicated, nil
}

// remove frees the names of an entry.
func (c *claims) remove(e *Entry) {
	for _, name := range e.names() {
		delete(c.names, name)
	}

	at := leaseKey{e.TTL, e.Key}
	if c.leased[at] == e {
		delete(c.leased, at)
	}

	c.count(e, -1)
}

// count adds delta to the tallies of an entry.
func (c *claims) count(e *Entry, delta int) {
	c.listens[e.listen] += delta
	if e.listen == "" || c.listens[e.listen] == 0 {
		delete(c.listens, e.listen)
	}

	t := c.tallies[e.Key]
	t.all += delta

	if e.suffixed() {
		t.suffixed += delta
	}

	c.tallies[e.Key] = t
	if t.all == 0 {
		delete(c.tallies, e.Key)
	}
}

// overlapping returns an error if readers could mistake an entry for an entry
// of another key, or the reverse.
func (c *claims) overlapping(e *Entry) (err error) {
	// of several such keys, the error names the first one
	first := ""
	for key, t := range c.tallies {
		other := Entry{Key: key}
		if t.suffixed > 0 {
			other.Layouts = []endpoint.Layout{endpoint.LeaseSuffix}
		}

		found := overlap(e, &other)
		if found != nil && (err == nil || key < first) {
			first = key
			err = found
		}
	}

	return err
}
