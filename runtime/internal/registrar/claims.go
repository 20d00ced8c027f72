package registrar

import (
	"fmt"
	"slices"
	"time"
)

// claims holds the entries that the process has registered, and the number of the lease session that each
// belongs on.
type claims struct {
	held     []*claim
	keys     map[string]*claim     // by the etcd keys that are known without the lease
	shared   map[time.Duration]int // the session for the entries of a TTL
	sessions int                   // the last number given
}

// claim is one registered entry.
type claim struct {
	entry     Entry
	session   int
	dedicated bool // no other entry is to be on the session
}

// add claims the keys of an entry. It is an error if readers could take them for another entry's.
func (c *claims) add(e Entry) (*claim, error) {
	for _, other := range c.held {
		if err := overlap(&e, &other.entry); err != nil {
			return nil, err
		}
	}
	keys := e.etcdKeys()
	for _, key := range keys {
		if first := c.keys[key]; first != nil {
			return nil, fmt.Errorf("key %q is already registered by this process, as instance %q of %q in %v with a TTL of %v: close that first, or give this another instance id",
				key, first.entry.Endpoint.Instance, first.entry.Key, first.entry.Layouts, first.entry.TTL)
		}
	}
	added := &claim{entry: e}
	added.session, added.dedicated = c.place(e)
	c.held = append(c.held, added)
	if c.keys == nil {
		c.keys = make(map[string]*claim)
	}
	for _, key := range keys {
		c.keys[key] = added
	}
	return added, nil
}

// place returns the session that an entry belongs on: the one for its TTL, or one of its own where two entries
// would have the lease as their key.
func (c *claims) place(e Entry) (session int, dedicated bool) {
	shared, ok := c.shared[e.TTL]
	taken := ok && slices.ContainsFunc(c.held, func(other *claim) bool {
		return other.session == shared && other.entry.Key == e.Key && other.entry.leaseInKey() && e.leaseInKey()
	})
	if ok && !taken {
		return shared, false
	}
	c.sessions++
	if !taken {
		if c.shared == nil {
			c.shared = make(map[time.Duration]int)
		}
		c.shared[e.TTL] = c.sessions
	}
	return c.sessions, taken
}

// remove gives up a claim.
func (c *claims) remove(gone *claim) {
	c.held = slices.DeleteFunc(c.held, func(held *claim) bool { return held == gone })
	for _, key := range gone.entry.etcdKeys() {
		delete(c.keys, key)
	}
}
