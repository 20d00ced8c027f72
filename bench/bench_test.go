package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// TestMain runs the tests, or measures a peer if the test binary was started
// for that.
func TestMain(m *testing.M) {
	if !Child(nil) {
		os.Exit(m.Run())
	}
}

func BenchmarkChange(b *testing.B) {
	benchmark(b, change)
}

func BenchmarkSequence(b *testing.B) {
	benchmark(b, sequence)
}

func BenchmarkRollout(b *testing.B) {
	benchmark(b, rollout)
}

func BenchmarkRollouts(b *testing.B) {
	benchmark(b, rollouts)
}

func BenchmarkChurn(b *testing.B) {
	benchmark(b, churn)
}

func BenchmarkCold(b *testing.B) {
	benchmark(b, cold)
}

func BenchmarkConns(b *testing.B) {
	benchmark(b, conns)
}

func BenchmarkRPC(b *testing.B) {
	benchmark(b, rpc)
}

func BenchmarkSlow(b *testing.B) {
	benchmark(b, slow)
}

func BenchmarkCalls(b *testing.B) {
	benchmark(b, calls)
}

func BenchmarkRest(b *testing.B) {
	benchmark(b, rest)
}

// benchmark measures all peers of a scenario in one run, and reports each peer
// as a sub-benchmark. See make bench.
func benchmark(b *testing.B, s *scenario) {
	for _, size := range s.sizes {
		b.Run(fmt.Sprintf("%s=%d", s.param, size), func(b *testing.B) {
			all, err := s.measure(size, 1)
			if err != nil {
				b.Fatal(err)
			}

			for _, peer := range s.peers {
				if values, ok := all[peer]; ok {
					b.Run("peer="+peer, func(b *testing.B) { report(b, values) })
				}
			}
		})
	}
}

func report(b *testing.B, values figures) {
	b.ReportMetric(0, "ns/op") // 0 hides the default metric unless values have it

	for unit, value := range values {
		b.ReportMetric(value, unit)
	}
}

// TestScenarios runs each scenario with a hundredth of its size and duration.
func TestScenarios(t *testing.T) {
	for _, all := range []*scenario{
		change, sequence, rollout, rollouts, churn, cold, conns, rpc, slow, calls, rest,
	} {
		t.Run(all.name, func(t *testing.T) {
			t.Parallel()

			s := *all
			s.peers = slices.DeleteFunc(slices.Clone(s.peers), func(peer string) bool {
				return peer == peerGoZero
			})

			measured, err := s.measure(s.sizes[0], 100)
			if err != nil {
				t.Fatal(err)
			}

			for _, peer := range s.peers {
				if len(measured[peer]) == 0 {
					t.Errorf("%s: %s has no figures, want some", s.name, peer)
				}
			}
		})
	}
}
