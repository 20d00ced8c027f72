package network

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Network is hosts and the connections between them. A host is an IP address; it exists as soon as it is named. Network
// is safe for concurrent use.
type Network struct {
	mu          sync.Mutex
	listeners   map[netip.AddrPort]*listener
	links       map[[2]string]Link
	removed     map[string]bool // hosts
	connections map[*connection]struct{}
	ports       map[netip.Addr]uint16 // the last port picked on a host
	changed     chan struct{}         // closed when a link changes
}

// New returns a network whose links are healthy.
func New() *Network {
	return &Network{
		listeners:   map[netip.AddrPort]*listener{},
		links:       map[[2]string]Link{},
		removed:     map[string]bool{},
		connections: map[*connection]struct{}{},
		ports:       map[netip.Addr]uint16{},
		changed:     make(chan struct{}),
	}
}

// Link is the state of a link between two hosts. The zero Link is healthy.
type Link struct {
	// Cut refuses new connections at once and resets open ones. It overrides the other fields.
	Cut bool

	// Stalled is a black hole. Dialling waits for its context, and nothing arrives, neither bytes nor a close nor a
	// reset. When the stall ends, dialling goes on and what was sent arrives, as TCP would resend it.
	Stalled bool

	// Delay is how long a byte travels each way. Dialling takes twice as long.
	Delay time.Duration
}

// Set sets the link between hosts a and b, in both directions. The zero Link heals it.
func (n *Network) Set(a, b string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[between(a, b)] = l
	n.relink()
}

// Remove takes a host off the network for good. Its links are cut, and Set does not heal them.
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

// relink has those who dial and the open connections see that links have changed. n.mu is held.
func (n *Network) relink() {
	close(n.changed)
	n.changed = make(chan struct{})
	for c := range n.connections {
		if c.setLink(n.link(c.from, c.to)) {
			delete(n.connections, c)
		}
	}
}

// Reset ends the open connections between hosts a and b with ECONNRESET on both sides, whichever of them dialled. On a
// stalled link the reset arrives when the stall ends.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.connections {
		if between(a, b) == between(c.from, c.to) && c.reset() {
			delete(n.connections, c)
		}
	}
}

// Crash ends the open connections of a host as its process's death does: with ECONNRESET.
func (n *Network) Crash(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.connections {
		if (c.from == host || c.to == host) && c.reset() {
			delete(n.connections, c)
		}
	}
}

// Connections returns the number of connections dialled from one host to another that neither side has closed. An empty
// name stands for every host.
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

// pickPort returns a port of host that nobody listens on. n.mu is held.
func (n *Network) pickPort(host netip.Addr) (uint16, error) {
	const first, last = 32768, 60999 // as on Linux
	port := n.ports[host]
	for range last - first + 1 {
		if port++; port < first || port > last {
			port = first
		}
		if n.listeners[netip.AddrPortFrom(host, port)] == nil {
			n.ports[host] = port
			return port, nil
		}
	}
	return 0, syscall.EADDRNOTAVAIL
}

// between returns the key of the link between two hosts, the same in both directions.
func between(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// parse returns the host and the port that addr names.
func parse(addr string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil:
		return netip.AddrPort{}, &net.AddrError{Err: "want the IP address of a host and a port", Addr: addr}
	case a.Addr().IsUnspecified():
		return netip.AddrPort{}, &net.AddrError{Err: "a wildcard address names no host", Addr: addr}
	}
	return a, nil
}

// parseHost returns the address of a host.
func parseHost(host string) (netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("host %q: want an IP address", host)
	}
	return a, nil
}
