package picking

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
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// ringHash sends calls with the same hash to the same instance, or to the next
// on the ring while that instance cannot take calls. Rings and hashes equal
// those of gRPC's ring_hash, so both policies send a call to the same instance.
// See
// https://github.com/grpc/proposal/blob/master/A42-xds-ring-hash-lb-policy.md
// and A76.
type ringHash struct {
	header               string // the name of the request metadata that is hashed
	minPoints, maxPoints uint64 // bounds of the number of points in a ring
}

func newRingHash(c *serviceconfig.RingHash) ringHash {
	r := ringHash{
		header:    c.RequestHashHeader,
		minPoints: cmp.Or(c.MinRingSize, serviceconfig.DefaultMinRingSize),
		maxPoints: cmp.Or(c.MaxRingSize, serviceconfig.DefaultMaxRingSize),
	}

	// gRPC's ring_hash has the same bound, unless the application raises it
	// there.
	r.maxPoints = min(r.maxPoints, serviceconfig.DefaultMaxRingSize)
	r.minPoints = min(r.minPoints, r.maxPoints)

	return r
}

func (ringHash) Traits() Traits {
	return Traits{Weighs: true, Rings: true}
}

// Pick picks by the ring. A call with a key waits while its instance is
// connecting, as in gRPC's ring_hash, so that all callers use that instance. A
// call without a key takes the first ready instance on the ring. If no instance
// is connecting, such a call also starts a connection to the first instance on
// its way that no call has reached yet.
func (r ringHash) Pick(ctx context.Context, o *calloptions.Options, s *Set) int {
	points := s.ring(r)
	hash, keyed := r.hash(ctx, o)
	low := 0

	high := len(points)
	for low < high {
		if half := int(uint(low+high) >> 1); points[half].hash < hash {
			low = half + 1
		} else {
			high = half
		}
	}

	for n := range points {
		member := points[(low+n)%len(points)].member
		switch i := s.at[member]; {
		case i >= 0 && !s.full(int(i)):
			s.Reach(int(member))
			return int(i)
		case i == connecting && keyed:
			s.Reach(int(member))
			return Wait
		case i == connecting && !s.Connects.Swap(true):
			s.Reach(int(member))
		}
	}

	if len(s.members) == 0 {
		return Wait
	}

	return Full
}

// hash returns the hash of a call, and whether the call has a key. Without a
// key, the hash is random.
func (r ringHash) hash(
	ctx context.Context,
	o *calloptions.Options,
) (hash uint64, keyed bool) {
	if o.Affinity.Text != "" && r.header == serviceconfig.AffinityHeader {
		return o.Affinity.HeaderHash, true
	}

	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[r.header]; len(values) > 0 {
		return xxhash.Sum64String(strings.Join(values, ",")), true
	}

	return rand.Uint64(), false
}

// ring returns the ring of the set's tier. The ring includes members that are
// not ready, so that the calls of the other members do not move when a member
// fails.
func (s *Set) ring(r ringHash) []point {
	if made := s.tier.ring.Load(); made != nil {
		return *made
	}

	names, weights := s.tier.ringInput()

	return s.tier.rings.add(&s.tier.ring,
		makeRing(names, weights, r.minPoints, r.maxPoints))
}

// maxRings bounds the cached rings, because each lane and group has its own
// ring. The oldest ring is dropped, and made again when a call needs it.
const maxRings = 64

// Rings caches the rings of one plan's tiers.
type Rings struct {
	mu     sync.Mutex
	cached []*ringOf // the oldest first
}

// add stores points in ring, and returns them. It drops the oldest cached ring
// if there are too many.
func (r *Rings) add(ring *ringOf, points []point) []point {
	r.mu.Lock()
	defer r.mu.Unlock()

	if ring.Swap(&points) != nil {
		return points
	}

	r.cached = append(r.cached, ring)
	if len(r.cached) > maxRings {
		r.cached[0].Store(nil)
		r.cached = r.cached[1:]
	}

	return points
}

// ringOf is the ring of a tier. It is nil while the ring is not cached.
type ringOf = atomic.Pointer[[]point]

// point is a point of a ring. Its member gets the calls whose hashes are above
// the previous point's and at most hash.
type point struct {
	hash   uint64
	member int32 // the index of the member in the tier
}

// makeRing returns the ring of members with names and weights, sorted by hash.
// minPoints and maxPoints bound the number of points.
func makeRing(names []string, weights []uint64, minPoints, maxPoints uint64) []point {
	sum := 0.0
	lightest := math.MaxFloat64
	for _, w := range weights {
		sum += float64(w)
		lightest = min(lightest, float64(w))
	}

	order := make([]int32, len(names))
	for i := range order {
		order[i] = int32(i)
	}

	slices.SortStableFunc(order, func(a, b int32) int {
		return strings.Compare(names[a], names[b])
	})
	lightest /= sum
	scale := min(math.Ceil(lightest*float64(minPoints))/lightest, float64(maxPoints))
	points := make([]point, 0, int(math.Ceil(scale))+len(names))
	target := 0.0

	text := []byte(nil)
	for _, i := range order {
		target += scale * (float64(weights[i]) / sum)
		text = append(append(text[:0], names[i]...), '_')
		// unlike in gRPC, each member has a point
		for n, name := 0, len(text); n == 0 || float64(len(points)) < target; n++ {
			text = strconv.AppendInt(text[:name], int64(n), 10)
			points = append(points, point{xxhash.Sum64(text), i})
		}
	}

	slices.SortStableFunc(points, func(a, b point) int {
		return cmp.Compare(a.hash, b.hash)
	})

	return points
}
