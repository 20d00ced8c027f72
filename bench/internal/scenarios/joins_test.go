package scenarios

import (
	"maps"
	"testing"
	"time"
)

func TestAddVisits(t *testing.T) {
	at := time.Unix(1000, 0)
	after := func(ms int) int64 { return at.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	// Each instance comes at 0 ms, and goes at 25 ms.
	for _, tt := range []struct {
		name string
		seen []visits
		want map[string]float64
	}{
		{"called soon, and until it went", []visits{{First: after(3), Last: after(24)}}, map[string]float64{
			"first call p50 ms": 3, "first call p90 ms": 3, "last call p50 ms": 0, "last call p90 ms": 0, "missed": 0, "calls after 5 ms": 0,
		}},
		{"calls after", []visits{{First: after(3), Last: after(32), Stale: 2}, {First: after(3), Last: after(32), Stale: 1}}, map[string]float64{
			"first call p50 ms": 3, "first call p90 ms": 3, "last call p50 ms": 7, "last call p90 ms": 7, "missed": 0, "calls after 5 ms": 3,
		}},
		{"one was never called: the times are the other's", []visits{{}, {First: after(4), Last: after(27)}}, map[string]float64{
			"first call p50 ms": 4, "first call p90 ms": 4, "last call p50 ms": 2, "last call p90 ms": 2, "missed": 1, "calls after 5 ms": 0,
		}},
		{"called only when it had gone: its last call counts", []visits{{First: after(26), Last: after(31), Stale: 1}}, map[string]float64{
			"last call p50 ms": 6, "last call p90 ms": 6, "missed": 1, "calls after 5 ms": 1,
		}},
		{"all were missed: no times", []visits{{}, {}}, map[string]float64{"missed": 2, "calls after 5 ms": 0}},
	} {
		came, went := make([]time.Time, len(tt.seen)), make([]time.Time, len(tt.seen))
		for i := range tt.seen {
			came[i], went[i] = at, at.Add(25*time.Millisecond)
		}
		got := map[string]float64{"missed": 0, metricAfter: 0}
		addVisits(got, tt.seen, came, went)
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestJoinsNamesItsSlack(t *testing.T) {
	for _, m := range joinsScenario.Metrics {
		if m.Name == "calls after 5 ms" {
			return
		}
	}
	t.Errorf("no metric has the name of a slack of %v", joinsSlack)
}
