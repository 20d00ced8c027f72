package balancer

import (
	"math/rand/v2"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxPicks is how often a policy below is asked to pick for one call while the endpoints that it picks are full. Our own
// policies leave these out, and are asked again only if another call took the last place meanwhile.
const maxPicks = 8

// bounded picks an endpoint that has fewer than most calls under way.
func (p *picker) bounded(below balancer.Picker, info balancer.PickInfo, most uint32) (balancer.PickResult, error) {
	for range maxPicks {
		result, err := below.Pick(info)
		w, ok := result.SubConn.(*subConn)
		if err != nil || !ok {
			return result, err
		}
		e := w.at.Load()
		if x := e.stationIn(p.policy.stations); x.enter(most) {
			result.SubConn, result.Done = e.conn, hold(x, result.Done)
			return result, nil
		}
		if result.Done != nil {
			result.Done(balancer.DoneInfo{}) // as gRPC does where it does not send the call
		}
	}
	return balancer.PickResult{}, status.Errorf(codes.Unavailable,
		"etcd: each endpoint of %q that was picked has %d calls under way, as many as max_concurrent_requests allows", p.policy.stations.service, most)
}

// stationIn returns the station of a SubConn's address.
func (e *entry) stationIn(s *stations) *station {
	x := e.station.Load()
	if x == nil {
		x = s.at(e.addr)
		e.station.Store(x)
	}
	return x
}

// enter counts a call unless the station is full.
func (x *station) enter(most uint32) bool {
	for {
		n := x.calls.Load()
		if n >= int64(most) {
			return false
		}
		if x.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// full reports whether a member may have no more calls.
func (t *table) full(i int) bool {
	return t.terms.most > 0 && t.stations[i].calls.Load() >= int64(t.terms.most)
}

// free returns a member that is not full: i if possible, else one by its share of the calls, else any. It returns -1 if
// all are full.
func (t *table) free(i int) int {
	if !t.full(i) {
		return i
	}
	for range 2 {
		if j := t.find(rand.Uint64()); !t.full(j) {
			return j
		}
	}
	for n := range t.stations {
		if j := (i + n) % len(t.stations); !t.full(j) {
			return j
		}
	}
	return -1
}

// allFull is the error for a call if all members are full.
func (s *readySet) allFull(t *table) error {
	return status.Errorf(codes.Unavailable, "etcd: all %d endpoints of %q that are ready have %d calls under way, as many as max_concurrent_requests allows",
		len(s.members), s.stations.service, t.terms.most)
}
