package balancer

import (
	"math/bits"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// everyReady connects to every endpoint, as round_robin does, and picks among those that are ready by a picker of
// our own. Weights and other metadata come with an endpoint's attributes, so a change takes effect without a reconnect.
type everyReady struct {
	balancer.Balancer   // a pick_first an endpoint
	balancer.ClientConn // gRPC's
	target              string
	sequence            sequence
	stations            atomic.Pointer[stations]
	picker              func(*readySet) balancer.Picker
	weight              func(resolver.Endpoint) uint64
	choices             atomic.Int32 // of least_request
}

// newEveryReady returns a policy that picks by the pickers which picker makes, one whenever other endpoints are ready.
func newEveryReady(cc balancer.ClientConn, opts balancer.BuildOptions, weight func(resolver.Endpoint) uint64, picker func(*readySet) balancer.Picker) balancer.Balancer {
	b := &everyReady{ClientConn: cc, target: opts.Target.Endpoint(), picker: picker, weight: weight}
	b.sequence.shuffle()
	b.Balancer = endpointsharding.NewBalancer(b, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return b
}

func (b *everyReady) UpdateClientConnState(s balancer.ClientConnState) error {
	given := stationsOf(s.ResolverState)
	if given == nil && b.stations.Load() == nil {
		given = newStations(b.target)
	}
	if given != nil {
		b.stations.Store(given)
	}
	if c, ok := s.BalancerConfig.(*leastConfig); ok {
		b.choices.Store(int32(c.ChoiceCount))
	}
	return b.Balancer.UpdateClientConnState(balancer.ClientConnState{
		// For client-side health checks and outlier detection, where they are asked for.
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// UpdateState implements [balancer.ClientConn].
func (b *everyReady) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		set := &readySet{sequence: &b.sequence, stations: b.stations.Load(), choices: int(b.choices.Load())}
		for _, child := range endpointsharding.ChildStatesFromPicker(s.Picker) {
			if child.State.ConnectivityState == connectivity.Ready {
				set.members = append(set.members, member{child.State.Picker, b.weight(child.Endpoint), child.Endpoint})
			}
		}
		set.stations.see(set.members)
		s.Picker = b.picker(set)
	}
	b.ClientConn.UpdateState(s)
}

// equal gives every endpoint the same weight.
func equal(resolver.Endpoint) uint64 { return 1 }

// readySet holds the endpoints of a leaf that are ready. Only its table changes.
type readySet struct {
	sequence *sequence
	stations *stations
	members  []member
	choices  int  // of least_request
	seated   bool // tables have stations under any terms
	table    atomic.Pointer[table]
	renewing atomic.Bool
}

type member struct {
	picker   balancer.Picker
	weight   uint64
	endpoint resolver.Endpoint
}

// table holds what picks go by at one time and under one config. It is immutable.
type table struct {
	terms    *terms
	until    time.Duration // when a share will have grown; 0: none grows
	upTo     []uint64      // for each member, the sum of the weights up to its own, which is included
	shares   []float64     // of the members' weights, from 0 to 1; nil: all are 1
	stations []*station    // of the members; nil: picks do not need them
}

// current returns the table of this moment. It reads the clock only while a share grows.
func (s *readySet) current() *table {
	if t := s.table.Load(); t != nil && t.until == 0 && t.terms == s.stations.terms.Load() {
		return t
	}
	return s.currentAt(s.stations.now())
}

// currentAt returns the table of a moment. When the next one is due, the first caller to notice makes it, and the others
// go by the old one meanwhile.
func (s *readySet) currentAt(now time.Duration) *table {
	t := s.table.Load()
	if t != nil && t.terms == s.stations.terms.Load() && (t.until == 0 || now < t.until) {
		return t
	}
	if t == nil {
		s.table.CompareAndSwap(nil, s.makeTable(now))
		return s.table.Load()
	}
	if s.renewing.CompareAndSwap(false, true) {
		defer s.renewing.Store(false)
		t = s.makeTable(now)
		s.table.Store(t)
	}
	return t
}

func (s *readySet) makeTable(now time.Duration) *table {
	t := &table{terms: s.stations.terms.Load(), upTo: make([]uint64, len(s.members))}
	if s.seated || *t.terms != (terms{}) {
		s.stations.seat(t, s.members, now)
	}
	total := uint64(0)
	for i := range s.members {
		weight := s.members[i].weight
		if t.shares != nil {
			weight = max(1, weight*uint64(t.shares[i]*shareUnits))
		}
		total += weight
		t.upTo[i] = total
	}
	return t
}

// grows reports whether the share of a member still grows.
func (t *table) grows(i int) bool { return t.shares != nil && t.shares[i] < 1 }

// find returns the member in whose share of the calls n lies.
func (t *table) find(n uint64) int {
	at, _ := bits.Mul64(n, t.upTo[len(t.upTo)-1])
	low, high := 0, len(t.upTo)-1
	for low < high { // sort.Search takes twice as long
		if half := int(uint(low+high) >> 1); at < t.upTo[half] {
			high = half
		} else {
			low = half + 1
		}
	}
	return low
}
