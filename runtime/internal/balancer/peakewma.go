package balancer

import (
	"encoding/json"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// PeakEwmaName is the name of the policy that picks by latency times calls under way.
const PeakEwmaName = serviceconfig.PeakEwmaName

type peakEwmaBuilder struct{}

func (peakEwmaBuilder) Name() string { return PeakEwmaName }

func (peakEwmaBuilder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseBare(text, "it has no fields: it goes by how long calls take")
}

func (peakEwmaBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return newEveryReady(cc, opts, equal, newPeakPicker)
}

// peakPicker draws two endpoints, and picks the one at which a call costs less.
type peakPicker struct{ *readySet }

func newPeakPicker(s *readySet) balancer.Picker {
	s.seated = true
	return peakPicker{s}
}

func (p peakPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	now := p.stations.now()
	t := p.currentAt(now)
	i := t.cheapest(p.sequence, now)
	if i < 0 {
		return balancer.PickResult{}, p.allFull(t)
	}
	result, err := p.members[i].picker.Pick(info)
	if err != nil {
		return result, err
	}
	x := t.stations[i]
	x.peak.picked.Store(int64(now))
	result.Done = begin(p.stations, x, now, result.Done)
	return result, nil
}

// cheapest draws two members, and returns the one for the call, -1 if all are full.
func (t *table) cheapest(sequence *sequence, now time.Duration) int {
	i, j := t.two(sequence)
	if t.terms.most > 0 {
		i, j = t.free(i), t.free(j)
	}
	switch {
	case i == j || j < 0:
		return i
	case i < 0: // a call has ended meanwhile
		return j
	}
	a, b := &t.stations[i].peak, &t.stations[j].peak
	if t.grows(i) && a.dearer(b) || !t.grows(i) && !a.cheaper(b) {
		i, j, b = j, i, a
	}
	if b.retry(now, rand.Uint64()) {
		return j
	}
	return i
}

// two draws two members, or one twice.
func (t *table) two(sequence *sequence) (i, j int) {
	if t.shares != nil {
		return t.twoOfShares(sequence.next())
	}
	all, n := uint64(len(t.stations)), rand.Uint64()
	if all == 1 {
		return 0, 0
	}
	i, j = int(n>>32*all>>32), int(n&(1<<32-1)*(all-1)>>32)
	if j >= i {
		j++
	}
	return i, j
}

// maxDraws is how often a second member is drawn that may stand beside the first.
const maxDraws = 4

// twoOfShares is two while a share grows. n says which member's turn it is. If its share grows, it gets the call unless
// it is much dearer than the other, which is any: few calls are under way at it, so it would be the cheaper one too
// often. Otherwise the other is one whose share no longer grows.
func (t *table) twoOfShares(n uint64) (i, j int) {
	i = t.find(n)
	for range maxDraws {
		if j = t.find(rand.Uint64()); j != i && (t.grows(i) || !t.grows(j)) {
			return i, j
		}
	}
	return i, i
}
