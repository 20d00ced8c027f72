// Package network simulates hosts and their connections in memory. Links can be
// cut, stalled and slowed down. It waits only on conditions, channels and
// timers, so that it works in a testing/synctest bubble. A network used in a
// bubble must be made in the bubble.
package network

import (
	"net/netip"
	"sync"
	"time"
)

// Network is a set of hosts and the connections between them. A host is any IP
// address. Network is safe for concurrent use.
type Network struct {
	mu          sync.Mutex
	listeners   map[netip.AddrPort]*listener
	links       map[[2]string]Link
	removed     map[string]bool // hosts
	connections map[*connection]struct{}
	dialled     map[netip.Addr]int // the number of connections from a host
	changed     chan struct{}      // closed when a link changes
}

// New returns a network whose links are healthy.
func New() *Network {
	return &Network{
		listeners:   map[netip.AddrPort]*listener{},
		links:       map[[2]string]Link{},
		removed:     map[string]bool{},
		connections: map[*connection]struct{}{},
		dialled:     map[netip.Addr]int{},
		changed:     make(chan struct{}),
	}
}

// Link is the state of a link between two hosts. The zero Link is healthy.
type Link struct {
	// Cut refuses new connections and resets open ones. It overrides the other
	// fields.
	Cut bool

	// Stalled makes the link a black hole. Dialling waits, and no byte, close
	// or reset arrives. When the stall ends, dialling goes on and all bytes
	// arrive, as if TCP resent them.
	Stalled bool

	// Delay is the time that a byte takes each way. Dialling takes twice as
	// long.
	Delay time.Duration
}

// Set sets the link between hosts a and b, in both directions. The zero Link
// heals it.
func (n *Network) Set(a, b string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.links[between(a, b)] = l
	n.relink()
}

// Remove takes a host off the network for good. Its links are cut, and Set does
// not heal them.
func (n *Network) Remove(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.removed[host] = true
	n.relink()
}

// Removed reports whether a host was taken off the network.
func (n *Network) Removed(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.removed[host]
}

// relink applies changed links to goroutines that dial and to open connections.
// n.mu is held.
func (n *Network) relink() {
	close(n.changed)
	n.changed = make(chan struct{})

	for c := range n.connections {
		if c.setLink(n.link(c.from, c.to)) {
			delete(n.connections, c)
		}
	}
}

// Reset ends the open connections between hosts a and b with ECONNRESET on both
// sides. On a stalled link the reset arrives when the stall ends.
func (n *Network) Reset(a, b string) {
	n.reset(func(c *connection) bool { return between(a, b) == between(c.from, c.to) })
}

// Crash ends the open connections of a host with ECONNRESET, as if its process
// had died.
func (n *Network) Crash(host string) {
	n.reset(func(c *connection) bool { return c.from == host || c.to == host })
}

func (n *Network) reset(match func(*connection) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	for c := range n.connections {
		if match(c) && c.reset() {
			delete(n.connections, c)
		}
	}
}

// Connections returns the number of open connections dialled from one host to
// another. "" stands for every host.
func (n *Network) Connections(from, to string) int {
	n.mu.Lock()
	defer n.mu.Unlock()

	count := 0
	for c := range n.connections {
		if (from == "" || from == c.from) && (to == "" || to == c.to) && c.open() {
			count++
		}
	}

	return count
}

// link returns the state of the link between two hosts. n.mu is held.
func (n *Network) link(a, b string) Link {
	if n.removed[a] || n.removed[b] {
		return Link{Cut: true}
	}

	return n.links[between(a, b)]
}

// between returns the key of the link between two hosts, the same in both
// directions.
func between(a, b string) [2]string {
	return [2]string{min(a, b), max(a, b)}
}
