package balancer

import (
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	// steps is in how many steps a share grows, save that a step takes minStep at least.
	steps   = 100
	minStep = 50 * time.Millisecond
	// shareUnits is the full share, in the unit in which weights are scaled by shares.
	shareUnits = 10_000
)

// start is where an address is in a slow start. The zero value is that of one that has its full share.
type start struct {
	says  string        // what its entry said of the time when its server started
	known bool          // since and ran are
	since time.Duration // when it was first seen ready after that start, since epoch
	ran   time.Duration // how long its server had run by then, if the clocks agree
}

// see takes the news that an address whose entry is e is ready. A server that says another time than before has
// started again. wall is now as the server's clock has it.
func (s *start) see(e *endpoint.Endpoint, now time.Duration, wall time.Time) {
	if e == nil || e.Metadata[endpoint.StartedName] == s.says {
		return
	}
	at, ok := e.Started()
	*s = start{says: e.Metadata[endpoint.StartedName], known: ok, since: now, ran: wall.Sub(at)}
}

// share returns the share that an address has of its own, from a percentage to 1, and whether it still grows.
func (s *start) share(of *serviceconfig.SlowStart, now time.Duration) (share float64, grows bool) {
	window, age := time.Duration(of.Window), now-s.since
	if !s.known || s.ran > window || age >= window {
		return 1, false
	}
	from := float64(of.MinPercent) / serviceconfig.MaxPercent
	if of.MinPercent == 0 {
		from = float64(serviceconfig.DefaultSlowStartFrom) / serviceconfig.MaxPercent
	}
	return from + (1-from)*max(0, float64(age))/float64(window), true
}

// stepOf returns how long shares stay as they are.
func stepOf(of *serviceconfig.SlowStart) time.Duration {
	return max(minStep, time.Duration(of.Window)/steps)
}
