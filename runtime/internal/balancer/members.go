package balancer

import (
	"sync"

	"google.golang.org/grpc/resolver"
)

// members is a set of endpoints, to look addresses up in. A change costs the change. The zero value is empty. It is
// safe for concurrent use.
type members struct {
	mu        sync.Mutex
	endpoints []resolver.Endpoint
	counts    map[string]int // of endpoints, by address; nil: nobody asked yet
	several   int            // endpoints that have not just one address; counted with counts
}

// has reports whether an endpoint has an address.
func (m *members) has(addr string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.countAll()
	return m.counts[addr] > 0
}

// lone reports whether each endpoint has one address.
func (m *members) lone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.countAll()
	return m.several == 0
}

// none reports whether there are no endpoints.
func (m *members) none() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.endpoints) == 0
}

// replace makes next the endpoints. It returns the addresses that these lack and those before had, unless nobody has
// asked for any.
func (m *members) replace(next []resolver.Endpoint) (gone []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.endpoints
	m.endpoints = next
	if m.counts == nil {
		return nil
	}
	before, behind := alike(old, next)
	m.count(next[before:len(next)-behind], 1)
	return m.count(old[before:len(old)-behind], -1)
}

// countAll counts all addresses unless that is done. It must be called with mu held.
func (m *members) countAll() {
	if m.counts == nil {
		m.counts = make(map[string]int, len(m.endpoints))
		m.count(m.endpoints, 1)
	}
}

// count adds n to the counts of the addresses of endpoints, and returns those whose count is 0 then. It must be called
// with mu held.
func (m *members) count(endpoints []resolver.Endpoint, n int) (none []string) {
	for i := range endpoints {
		if len(endpoints[i].Addresses) != 1 {
			m.several += n
		}
		for _, a := range endpoints[i].Addresses {
			if m.counts[a.Addr] += n; m.counts[a.Addr] == 0 {
				delete(m.counts, a.Addr)
				none = append(none, a.Addr)
			}
		}
	}
	return none
}

// alike returns how many endpoints two lists have in common at their beginnings, and how many others at their ends, by
// identity: most of a list is then compared without a look at what it points to.
func alike(a, b []resolver.Endpoint) (before, behind int) {
	n := min(len(a), len(b))
	for before < n && identicalEndpoints(&a[before], &b[before]) {
		before++
	}
	for behind < n-before && identicalEndpoints(&a[len(a)-1-behind], &b[len(b)-1-behind]) {
		behind++
	}
	return before, behind
}
