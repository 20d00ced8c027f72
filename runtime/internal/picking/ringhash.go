package picking

import (
	"cmp"
	"context"
	"math/rand/v2"
	"strings"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// ringHash sends calls with the same hash to the same instance while it can take them, and to the next on the ring
// otherwise. Rings and hashes equal gRPC's ring_hash, so both send a call to the same instance: see
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
	// gRPC has the same bound, unless a process raises it.
	r.most = min(r.most, serviceconfig.DefaultMaxRingSize)
	r.least = min(r.least, r.most)
	return r
}

func (ringHash) Traits() Traits { return Traits{Weighs: true, Rings: true} }

// Pick picks by the ring. A tied call waits while its instance connects, so that all callers send it there; in gRPC's ring_hash
// it waits until the attempt has ended.
func (r ringHash) Pick(ctx context.Context, o *calloptions.Options, s *Set) int {
	points := s.ring(r)
	hash, tied := r.hash(ctx, o)
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
			return Wait
		case i >= 0 && !s.full(int(i)):
			return int(i)
		}
	}
	return Full
}

// hash returns the hash of a call, a random one if it is not tied.
func (r ringHash) hash(ctx context.Context, o *calloptions.Options) (hash uint64, tied bool) {
	if o.Affinity.Text != "" && r.header == serviceconfig.AffinityHeader {
		return o.Affinity.HeaderHash, true
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[r.header]; len(values) > 0 {
		return xxhash.Sum64String(strings.Join(values, ",")), true
	}
	return rand.Uint64(), false
}

// ring returns the ring of the set's tier, with members that are not ready: one of these moves only its own calls.
func (s *Set) ring(r ringHash) []point {
	if made := s.tier.ring.Load(); made != nil {
		return *made
	}
	names, weights := s.tier.hashed()
	return s.tier.rings.add(&s.tier.ring, makeRing(names, weights, r.least, r.most))
}
