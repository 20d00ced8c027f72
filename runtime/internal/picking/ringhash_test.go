package picking

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// setOf returns a set of ready endpoints with weights.
func setOf(policy Policy, slow *serviceconfig.SlowStart, weights ...uint32) *Set {
	s := tierOf(new(Rings), weights...).NewSet(policy.Traits())
	s.SlowStart = slow
	s.Reach = func(int) {}

	for _, weight := range weights {
		if !policy.Traits().Weighs {
			weight = 0
		}

		s.Add(new(Stats), uint64(weight))
	}

	return s
}

func tierOf(rings *Rings, weights ...uint32) *Tier {
	return NewTier(make([]int32, len(weights)), rings, func() (names []string, all []uint64) {
		for i, weight := range weights {
			names = append(names, fmt.Sprintf("i%03d", i))
			all = append(all, uint64(weight))
		}

		return names, all
	})
}

// TestRing_SharesFollowWeights has weights that gRPC's ring_hash cannot
// distinguish, or whose sum overflows in gRPC (P21).
func TestRing_SharesFollowWeights(t *testing.T) {
	for _, tt := range []struct {
		weights []uint32
		want    float64 // the share of the last member
	}{
		{[]uint32{100_000, 900_000}, 0.9},
		{[]uint32{900_000, 100_000}, 0.1},
		{[]uint32{1, 4_000_000_000}, 1},
		{[]uint32{4_000_000_000, 4_000_000_000}, 0.5},
		{[]uint32{4_000_000_000, 4_000_000_000, 1}, 0},
	} {
		by := newRingHash(&serviceconfig.RingHash{})
		s := setOf(by, nil, tt.weights...)
		hits := 0

		const n = 20_000
		for range n { // calls without a key have random hashes
			if by.Pick(context.Background(), &calloptions.Options{}, s) == len(tt.weights)-1 {
				hits++
			}
		}

		if share := float64(hits) / n; math.Abs(share-tt.want) > 0.03 {
			t.Errorf("weights %v: the last member's share is %.3f, want %.2f", tt.weights, share,
				tt.want)
		}

		points := s.ring(by)
		for i := range tt.weights {
			if !slices.ContainsFunc(points, func(x point) bool { return x.member == int32(i) }) {
				t.Errorf("weights %v: the ring has no point of member %d, want at least one",
					tt.weights, i)
			}
		}

		if len(points) > 4096+len(tt.weights) {
			t.Errorf("weights %v: the ring has %d points, want at most %d", tt.weights,
				len(points), 4096+len(tt.weights))
		}
	}
}

// TestRing_IsBounded makes the rings of more tiers than maxRings.
func TestRing_IsBounded(t *testing.T) {
	by := newRingHash(&serviceconfig.RingHash{})
	rings := new(Rings)
	tiers := make([]*Tier, 3*maxRings)
	for i := range tiers {
		tiers[i] = tierOf(rings, 1)
	}

	for range 2 {
		for _, x := range tiers {
			s := x.NewSet(by.Traits())
			if made := s.ring(by); len(made) == 0 || &made[0] != &s.ring(by)[0] {
				t.Fatalf("two successive calls of ring returned different rings, or rings without points (the first has %d points)", len(made))
			}
		}
	}

	kept := 0
	for _, x := range tiers {
		if x.ring.Load() != nil {
			kept++
		}
	}

	if kept != maxRings || len(rings.cached) != maxRings {
		t.Errorf("%d tiers have a ring, and the cache has %d rings, want %d of each", kept,
			len(rings.cached), maxRings)
	}
}
