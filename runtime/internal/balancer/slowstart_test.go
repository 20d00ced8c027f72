package balancer

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

func window(d time.Duration, from uint32) *serviceconfig.SlowStart {
	return &serviceconfig.SlowStart{Window: serviceconfig.Duration(d), MinPercent: from}
}

// startedAt returns the metadata of a server that started at a time.
func startedAt(at time.Time) map[string]string {
	return map[string]string{endpoint.StartedName: strconv.FormatInt(at.Unix(), 10)}
}

func TestShares(t *testing.T) {
	for _, tt := range []struct {
		what string
		of   *serviceconfig.SlowStart
		age  time.Duration
		want float64
	}{
		{"at first", window(10*time.Second, 0), 0, 0.1},
		{"after half of the window", window(10*time.Second, 0), 5 * time.Second, 0.55},
		{"after the window", window(10*time.Second, 0), 10 * time.Second, 1},
		{"from a percentage", window(10*time.Second, 50), 2 * time.Second, 0.6},
		{"from all", window(10*time.Second, 100), 2 * time.Second, 1},
		{"time does not go back", window(10*time.Second, 0), -time.Second, 0.1},
	} {
		s := start{known: true, since: time.Hour}
		if got, grows := s.share(tt.of, time.Hour+tt.age); math.Abs(got-tt.want) > 1e-9 || grows != (tt.age < 10*time.Second) {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

func TestWhoStarts(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for what, tt := range map[string]struct {
		metadata map[string]string
		want     bool
	}{
		"one that does not say":              {nil, false},
		"one that says nonsense":             {map[string]string{endpoint.StartedName: "-1"}, false},
		"one that says a huge number":        {map[string]string{endpoint.StartedName: strings.Repeat("9", 30)}, false},
		"one that started before the window": {startedAt(now.Add(-11 * time.Second)), false},
		"one that started in the window":     {startedAt(now.Add(-9 * time.Second)), true},
		"one whose clock is ahead":           {startedAt(now.Add(time.Hour)), true},
	} {
		var x station
		x.see(&endpoint.Endpoint{Metadata: tt.metadata}, now)
		if _, grows := x.start.Load().share(window(10*time.Second, 0), now.Sub(epoch)); grows != tt.want {
			t.Errorf("%s: %+v", what, x.start.Load())
		}
	}
	var x station
	x.see(nil, now)
	first := &endpoint.Endpoint{Metadata: startedAt(now)}
	x.see(first, now.Add(time.Second))
	before := x.start.Load()
	x.see(first, now.Add(2*time.Second))
	if x.start.Load() != before {
		t.Errorf("a reconnect starts it again: %+v", x.start.Load())
	}
	x.see(&endpoint.Endpoint{Metadata: startedAt(now.Add(time.Second))}, now.Add(3*time.Second))
	if s := x.start.Load(); s.since != before.since+2*time.Second || !s.known {
		t.Errorf("a restart does not: %+v", s)
	}
}

// setOf returns a set of members with weights, which are ready.
func setOf(t *testing.T, config string, weights ...uint32) *set {
	t.Helper()
	var fleet []resolver.Endpoint
	for i, weight := range weights {
		name := string(rune('a' + i))
		fleet = append(fleet, attr.New(&endpoint.Endpoint{Instance: name, Addr: name + ":1", Weight: weight}, new(attr.Storage)))
	}
	return standOf(planOf(t, config, fleet), instances(fleet)).groups[0].sets[0]
}

// starts has a member be ready just after its server has started.
func (s *set) starts(i int, now time.Duration) {
	s.conns[i].see(&endpoint.Endpoint{Metadata: startedAt(epoch.Add(now))}, epoch.Add(now))
}

// next picks at a moment.
func (s *set) next(by way, now time.Duration) int {
	if _, ok := by.(peakEwma); ok {
		return s.cheapest(now)
	}
	s.currentAt(now) // which is long from now
	return by.pick(context.Background(), &noWishes, s)
}

// TestASlowStartIsAStraightLine counts the picks in each second of a window of ten.
func TestASlowStartIsAStraightLine(t *testing.T) {
	for _, tt := range []struct {
		child   string
		weights []uint32
		full    float64
	}{
		{"round_robin", []uint32{1, 1, 1, 1}, 1},
		{"etcd_weighted", []uint32{10, 10, 10, 30}, 3},
		{"etcd_peak_ewma", []uint32{1, 1, 1, 1}, 1},
	} {
		now := time.Hour
		config := `{"slowStart":{"window":"10s","minPercent":10},"childPolicy":[{"` + tt.child + `":{}}]}`
		s, by := setOf(t, config, tt.weights...), mustConfig(t, config).way
		s.starts(3, now)
		if shares := s.makeTable(now + 5*time.Second).shares; math.Abs(shares[3]-0.55) > 1e-9 {
			t.Errorf("shares %v where nobody picked before, want 0.55 of the last", shares)
		}
		for second := range 12 {
			picks := make([]int, 4)
			for range 1000 {
				var under [10]int
				for i := range under {
					under[i] = s.next(by, now)
					s.conns[under[i]].enter(0)
					picks[under[i]]++
				}
				now += time.Millisecond
				for _, i := range under {
					s.conns[i].calls.Add(-1)
					s.conns[i].peak.end(time.Millisecond, now, nil)
				}
			}
			share := float64(picks[3]) / (float64(picks[0]+picks[1]+picks[2]) / 3) / tt.full
			want := min(1, 0.1+0.9*(float64(second)+0.5)/10)
			if math.Abs(share-want) > 0.03 {
				t.Errorf("%s: in second %d its share is %.3f of its own, want %.3f", tt.child, second, share, want)
			}
		}
	}
}

// TestSlowStartOverServers has a new server beside two old ones, over a connection that stays as the slow start comes
// and goes.
func TestSlowStartOverServers(t *testing.T) {
	servers := serveAll(t, "a", "b", "c")
	servers[0].Metadata, servers[1].Metadata = startedAt(time.Now().Add(-time.Hour)), nil
	servers[2].Metadata = startedAt(time.Now())
	r := newRig(t, &attr.Client{})
	count := func() (calls [3]int64) {
		for i, s := range servers {
			calls[i] = -s.calls.Load()
		}
		for range 300 {
			if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range servers {
			calls[i] += s.calls.Load()
		}
		return calls
	}
	for range 2 {
		r.update(`{"slowStart":{"window":"3600s"}}`, servers)
		// 300 * 0.1/2.1, once the client has seen that every connection is ready
		eventually(t, "the new one gets its small share", func() bool { c := count(); return c[2] >= 10 && c[2] <= 20 && c[0] > 100 && c[1] > 100 })
		r.update(`{}`, servers)
		eventually(t, "the new one gets its full share", func() bool { return count()[2] == 100 })
	}
	if made, open := connections(servers); made != 3 || open != 3 {
		t.Errorf("%d connections were made, %d are open", made, open)
	}
}
