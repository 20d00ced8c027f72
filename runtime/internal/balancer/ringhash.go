package balancer

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// ringHash gives calls with the same hash to the same instance while that can take them, and to the next on the ring
// otherwise. Rings and hashes are those of gRPC's ring_hash, so both send a call to the same instance: see
// https://github.com/grpc/proposal/blob/master/A42-xds-ring-hash-lb-policy.md and A76.
type ringHash struct {
	header      string // request metadata by which calls are hashed
	least, most uint64 // points of a ring
}

func newRingHash(c *serviceconfig.RingHash) ringHash {
	r := ringHash{
		header: c.RequestHashHeader,
		least:  cmp.Or(c.MinRingSize, serviceconfig.DefaultMinRingSize), most: cmp.Or(c.MaxRingSize, serviceconfig.DefaultMaxRingSize),
	}
	// gRPC has this bound as well, unless a process lifts it.
	r.most = min(r.most, serviceconfig.DefaultMaxRingSize)
	r.least = min(r.least, r.most)
	return r
}

func (ringHash) traits() traits { return traits{weighs: true} }

// pick has a call that is tied to an instance wait while that connects, as gRPC does, so that all callers send it there.
func (r ringHash) pick(ctx context.Context, w *wishes, s *set) int {
	points := s.ring(r)
	hash, tied := r.hash(ctx, w)
	low, high := 0, len(points)
	for low < high {
		if half := int(uint(low+high) >> 1); points[half].hash < hash {
			low = half + 1
		} else {
			high = half
		}
	}
	for n := range points {
		switch i := s.at[points[(low+n)%len(points)].member]; {
		case i == connects && tied:
			return wait
		case i >= 0 && !s.full(int(i)):
			return int(i)
		}
	}
	return full
}

// hash returns the hash of a call, any where it is not tied.
func (r ringHash) hash(ctx context.Context, w *wishes) (hash uint64, tied bool) {
	if w.affinity.key != "" && r.header == AffinityHeader {
		return w.affinity.ring, true
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[r.header]; len(values) > 0 {
		return xxhash.Sum64String(strings.Join(values, ",")), true
	}
	return rand.Uint64(), false
}

// What set.at has for members that are not ready.
const (
	fails    = -1
	connects = -2
)

// point is a point of a ring, from which on the calls with greater hashes are a member's.
type point struct {
	hash   uint64
	member int32 // of the tier
}

// makeRing returns the ring of members with names and weights, sorted by hash.
func (r ringHash) makeRing(names []string, weights []uint64) []point {
	sum, least := 0.0, math.MaxFloat64
	for _, w := range weights {
		sum += float64(w)
		least = min(least, float64(w))
	}
	order := make([]int32, len(names))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return strings.Compare(names[a], names[b]) })
	least /= sum
	scale := min(math.Ceil(least*float64(r.least))/least, float64(r.most))
	points := make([]point, 0, int(math.Ceil(scale))+len(names))
	target, text := 0.0, []byte(nil)
	for _, i := range order {
		target += scale * (float64(weights[i]) / sum)
		text = append(append(text[:0], names[i]...), '_')
		for n, name := 0, len(text); n == 0 || float64(len(points)) < target; n++ { // each has one, where gRPC has none
			text = strconv.AppendInt(text[:name], int64(n), 10)
			points = append(points, point{xxhash.Sum64(text), i})
		}
	}
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return points
}

// ring returns the ring of the set's tier, ready or not: that some instance is not ready moves no calls but its own.
func (s *set) ring(r ringHash) []point {
	if made := s.tier.ring.Load(); made != nil {
		return *made
	}
	return s.view.plan.rings.add(s.tier, r.makeRing(s.view.plan.hashed(s.tier)))
}

// hashed returns what a ring is made of: the members' instance ids, of which two that are alike are told apart by their
// addresses, and their weights.
func (p *plan) hashed(t *tier) (names []string, weights []uint64) {
	names, weights = make([]string, len(t.members)), make([]uint64, len(t.members))
	for i, m := range t.members {
		ep := &p.left[m]
		names[i], weights[i] = instance(ep), weightOf(ep)
		if m > 0 && instance(&p.left[m-1]) == names[i] {
			names[i] += " " + address(ep)
		}
	}
	return names, weights
}

// maxRings is how many rings a plan keeps. What is beyond is made anew for a call, so that lanes, methods and groups do not
// multiply in memory what one endpoint takes.
const maxRings = 64

// rings are those that a plan keeps.
type rings struct {
	mu   sync.Mutex
	kept []*tier // the oldest first
}

// add keeps the ring of a tier, in place of the oldest if there are too many.
func (r *rings) add(t *tier, made []point) []point {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.ring.Swap(&made) != nil {
		return made
	}
	if r.kept = append(r.kept, t); len(r.kept) > maxRings {
		r.kept[0].ring.Store(nil)
		r.kept = r.kept[1:]
	}
	return made
}

// ringOf is the ring of a tier; nil: it is not made, or not kept.
type ringOf = atomic.Pointer[[]point]
