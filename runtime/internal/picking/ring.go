package picking

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// maxRings bounds the cached rings. Beyond that, the oldest is dropped and made again for a call, so that lanes and groups do
// not multiply the memory of one endpoint.
const maxRings = 64

// Rings caches the rings of one plan's tiers.
type Rings struct {
	mu   sync.Mutex
	kept []*ringOf // the oldest first
}

// add caches a ring, in place of the oldest if there are too many.
func (r *Rings) add(at *ringOf, made []point) []point {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Swap(&made) != nil {
		return made
	}
	if r.kept = append(r.kept, at); len(r.kept) > maxRings {
		r.kept[0].Store(nil)
		r.kept = r.kept[1:]
	}
	return made
}

// ringOf is the ring of a tier; nil: not made, or not cached.
type ringOf = atomic.Pointer[[]point]

// point is the end of an arc of a ring. Its member gets calls with hashes up to its own, from the previous point.
type point struct {
	hash   uint64
	member int32 // of the tier
}

// makeRing returns the ring of members with names and weights, sorted by hash. least and most bound its number of points.
func makeRing(names []string, weights []uint64, least, most uint64) []point {
	sum, lightest := 0.0, math.MaxFloat64
	for _, w := range weights {
		sum += float64(w)
		lightest = min(lightest, float64(w))
	}
	order := make([]int32, len(names))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return strings.Compare(names[a], names[b]) })
	lightest /= sum
	scale := min(math.Ceil(lightest*float64(least))/lightest, float64(most))
	points := make([]point, 0, int(math.Ceil(scale))+len(names))
	target, text := 0.0, []byte(nil)
	for _, i := range order {
		target += scale * (float64(weights[i]) / sum)
		text = append(append(text[:0], names[i]...), '_')
		for n, name := 0, len(text); n == 0 || float64(len(points)) < target; n++ { // each has at least one, unlike in gRPC
			text = strconv.AppendInt(text[:name], int64(n), 10)
			points = append(points, point{xxhash.Sum64(text), i})
		}
	}
	slices.SortStableFunc(points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return points
}
