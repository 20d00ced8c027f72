package balancer

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// stations is what one connection knows of the addresses that it calls, whichever leaf calls them. It reaches our
// own policies below in the resolver's state, since others, such as outlier detection, may stand between.
type stations struct {
	service string
	terms   atomic.Pointer[terms]
	now     func() time.Duration // since epoch
	wall    func() time.Time

	mu     sync.Mutex
	byAddr map[string]*station
}

// terms are the options of the config that hold for every leaf. They are immutable, and take effect with the next pick.
type terms struct {
	most  uint32                   // calls under way at an address; 0: no bound
	start *serviceconfig.SlowStart // nil: all have their full share at once
}

func (t *terms) equal(o *terms) bool {
	sameStart := t.start == o.start || t.start != nil && o.start != nil && *t.start == *o.start
	return t.most == o.most && sameStart
}

// station is what a connection knows of one address.
type station struct {
	calls atomic.Int64 // under way, of those that began while there was a bound
	peak  peak
	start start // guarded by stations.mu
}

// epoch is the zero of the clock of stations.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

func newStations(service string) *stations {
	s := &stations{service: service, now: sinceEpoch, wall: time.Now, byAddr: make(map[string]*station)}
	s.terms.Store(&terms{})
	return s
}

// at returns the station of an address.
func (s *stations) at(addr string) *station {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.byAddr[addr]
	if x == nil {
		x = &station{}
		s.byAddr[addr] = x
	}
	return x
}

// set puts terms in force.
func (s *stations) set(next terms) {
	if !s.terms.Load().equal(&next) {
		s.terms.Store(&next)
	}
}

// see notes that members are ready, for a slow start counts from that time, even if nobody picks yet.
func (s *stations) see(members []member) {
	if s.terms.Load().start == nil {
		return // the next table notes it early enough
	}
	now, wall := s.now(), s.wall()
	for i := range members {
		x := s.at(address(members[i].endpoint))
		s.mu.Lock()
		x.start.see(attr.Endpoint(members[i].endpoint), now, wall)
		s.mu.Unlock()
	}
}

// seat fills in the stations of members, which are ready, and their shares of this moment unless all are full.
func (s *stations) seat(t *table, members []member, now time.Duration) {
	t.stations = make([]*station, len(members))
	for i := range members {
		t.stations[i] = s.at(address(members[i].endpoint))
	}
	of := t.terms.start
	if of == nil {
		return
	}
	shares, wall := make([]float64, len(members)), s.wall()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range t.stations {
		x.start.see(attr.Endpoint(members[i].endpoint), now, wall)
		share, grows := x.start.share(of, now)
		if shares[i] = share; grows {
			t.shares, t.until = shares, now+stepOf(of)
		}
	}
}

// minKept is how many stations are kept in any case.
const minKept = 64

// prune forgets stations without calls under way whose addresses the resolver no longer has. n is how many it has:
// all stations are kept while they are not many more.
func (s *stations) prune(resolved func(addr string) bool, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byAddr) <= 2*n+minKept {
		return
	}
	for addr, x := range s.byAddr {
		if !x.busy() && !resolved(addr) {
			delete(s.byAddr, addr)
		}
	}
}

// busy reports whether calls are under way.
func (x *station) busy() bool { return x.calls.Load() > 0 || x.peak.underWay.Load() > 0 }

type stationsKey struct{}

// withStations returns state with s in it, for the policies below.
func withStations(state resolver.State, s *stations) resolver.State {
	state.Attributes = state.Attributes.WithValue(stationsKey{}, s)
	return state
}

// stationsOf returns the stations that withStations added, nil if the policy "etcd" does not stand above.
func stationsOf(state resolver.State) *stations {
	s, _ := state.Attributes.Value(stationsKey{}).(*stations)
	return s
}
