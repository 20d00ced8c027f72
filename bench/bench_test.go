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

var scenarios = []*scenario{
	change, sequence, rollout, rollouts, churn, cold, conns, rpc, slow, calls, rest,
}

// BenchmarkPeers measures each scenario. See make bench.
func BenchmarkPeers(b *testing.B) {
	for _, s := range scenarios {
		b.Run(s.name, func(b *testing.B) { benchmark(b, s) })
	}
}

// benchmark measures all peers of a scenario in one run, and reports each peer
// as a sub-benchmark.
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
	for _, all := range scenarios {
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
