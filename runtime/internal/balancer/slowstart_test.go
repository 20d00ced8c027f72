package balancer

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"

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
		var s start
		s.see(&endpoint.Endpoint{Metadata: tt.metadata}, 5, now)
		if _, grows := s.share(window(10*time.Second, 0), 5); grows != tt.want {
			t.Errorf("%s: %+v", what, s)
		}
	}
	var s start
	s.see(nil, 0, now)
	first := &endpoint.Endpoint{Metadata: startedAt(now)}
	s.see(first, 1*time.Second, now)
	s.see(first, 2*time.Second, now)
	if s.since != time.Second {
		t.Errorf("a reconnect starts it again: %+v", s)
	}
	s.see(&endpoint.Endpoint{Metadata: startedAt(now.Add(time.Second))}, 3*time.Second, now)
	if s.since != 3*time.Second || !s.known {
		t.Errorf("a restart does not: %+v", s)
	}
}

// startingSet is three old endpoints and a new one, which is the last.
func startingSet(now *time.Duration, weights ...uint64) *readySet {
	s := &readySet{sequence: &sequence{}, stations: newStations("acme/user")}
	s.stations.now = func() time.Duration { return *now }
	s.stations.wall = func() time.Time { return epoch.Add(*now) }
	for i, weight := range weights {
		e := &endpoint.Endpoint{Addr: "h" + strconv.Itoa(i) + ":1"}
		if i == len(weights)-1 {
			e.Metadata = startedAt(epoch.Add(*now))
		}
		s.members = append(s.members, member{numbered(i), weight, attr.New(e, new(attr.Storage))})
	}
	return s
}

// numbered is a picker that says in its result which it is.
type numbered int

func (n numbered) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: &subConn{addr: strconv.Itoa(int(n))}}, nil
}

// TestASlowStartIsAStraightLine counts the picks in each second of a window of ten.
func TestASlowStartIsAStraightLine(t *testing.T) {
	for _, tt := range []struct {
		what    string
		picker  func(*readySet) balancer.Picker
		weights []uint64
		full    float64
	}{
		{"round robin", newWeightedPicker, []uint64{1, 1, 1, 1}, 1},
		{"by weight", newWeightedPicker, []uint64{10, 10, 10, 30}, 3},
		{"by latency", newPeakPicker, []uint64{1, 1, 1, 1}, 1},
	} {
		now := time.Hour
		set := startingSet(&now, tt.weights...)
		set.stations.set(terms{start: window(10*time.Second, 10)})
		p := tt.picker(set)
		for second := range 12 {
			picks := make([]int, 4)
			for range 1000 {
				var under [10]balancer.PickResult
				for i := range under {
					under[i], _ = p.Pick(balancer.PickInfo{})
					n, _ := strconv.Atoi(under[i].SubConn.(*subConn).addr)
					picks[n]++
				}
				now += time.Millisecond
				for _, result := range under {
					if result.Done != nil {
						result.Done(balancer.DoneInfo{BytesReceived: true})
					}
				}
			}
			share := float64(picks[3]) / (float64(picks[0]+picks[1]+picks[2]) / 3) / tt.full
			want := min(1, 0.1+0.9*(float64(second)+0.5)/10)
			if math.Abs(share-want) > 0.03 {
				t.Errorf("%s: in second %d its share is %.3f of its own, want %.3f", tt.what, second, share, want)
			}
		}
	}
}

// TestASlowStartBeginsBeforeThePicks has an endpoint be ready for half of its window before anybody picks.
func TestASlowStartBeginsBeforeThePicks(t *testing.T) {
	now := time.Hour
	set := startingSet(&now, 1, 1)
	set.stations.set(terms{start: window(10*time.Second, 10)})
	set.stations.see(set.members)
	now += 5 * time.Second
	if shares := set.current().shares; math.Abs(shares[1]-0.55) > 1e-9 {
		t.Errorf("shares %v, want 0.55 of the second", shares)
	}
}

func TestSlowStartIsChangedLive(t *testing.T) {
	now := time.Hour
	set := startingSet(&now, 1, 1)
	p := newWeightedPicker(set)
	last := func() (n int) {
		for range 1000 {
			result, _ := p.Pick(balancer.PickInfo{})
			if result.SubConn.(*subConn).addr == "1" {
				n++
			}
		}
		return n
	}
	if n := last(); n < 499 || n > 501 {
		t.Errorf("without a slow start: %d", n)
	}
	set.stations.set(terms{start: window(time.Minute, 0)})
	before := set.current()
	if n := last(); n < 89 || n > 93 { // a tenth beside a whole
		t.Errorf("with one: %d", n)
	}
	set.stations.set(terms{start: window(time.Minute, 0)})
	if set.current() != before {
		t.Error("the same terms make another table")
	}
	set.stations.set(terms{})
	if n := last(); n < 499 || n > 501 {
		t.Errorf("without one again: %d", n)
	}
}

// TestSlowStartInTheConfig looks at which policies stand below.
func TestSlowStartInTheConfig(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                             "round_robin {}",
		`{"slowStart":{"window":"10s"}}`: "etcd_round_robin {}",
		`{"slowStart":{"window":"10s"},"childPolicy":[{"etcd_weighted":{}}]}`:                          "etcd_weighted {}",
		`{"maxConcurrentRequests":1}`:                                                                  "etcd_round_robin {}",
		`{"maxConcurrentRequests":1,"childPolicy":[{"least_request_experimental":{"choiceCount":3}}]}`: `etcd_least_request {"choiceCount":3}`,
		`{"childPolicy":[{"least_request_experimental":{"choiceCount":3}}]}`:                           `least_request_experimental {"choiceCount":3}`,
	} {
		if c := mustConfig(t, config); c.child.name()+" "+c.child.text != want {
			t.Errorf("%s: %s %s", config, c.child.name(), c.child.text)
		}
	}
	e, err := serviceconfig.ParseEtcd([]byte(`{"slowStart":{"window":"10s"},"childPolicy":[{"outlier_detection_experimental":{"childPolicy":[{"round_robin":{}}]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := standIn(e.ChildPolicy[0], e).ConfigJSON()
	if err != nil || string(text) != `{"childPolicy":[{"etcd_round_robin":{}}]}` {
		t.Errorf("%s, %v", text, err)
	}
	if text, _ := e.ChildPolicy[0].ConfigJSON(); string(text) != `{"childPolicy":[{"round_robin":{}}]}` {
		t.Errorf("the config has become %s", text)
	}
}

// TestSlowStartOverServers has a new server beside two old ones, over a connection that stays as the slow start comes
// and goes.
func TestSlowStartOverServers(t *testing.T) {
	servers := serveAll(t, "a", "b", "c")
	servers[0].Metadata, servers[1].Metadata = startedAt(time.Now().Add(-time.Hour)), nil
	servers[2].Metadata = startedAt(time.Now())
	r := newRig(t, &attr.Client{})
	r.update(`{"slowStart":{"window":"3600s"}}`, servers)
	r.connected(servers)
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
	// 300 * 0.1/2.1, once the client has seen that every connection is ready
	eventually(t, "the new one gets its small share", func() bool { c := count()[2]; return c >= 10 && c <= 20 })
	r.update(`{}`, servers)
	eventually(t, "the new one gets its full share", func() bool { return count()[2] == 100 })
	if made, open := connections(servers); made != 3 || open != 3 {
		t.Errorf("%d connections were made, %d are open", made, open)
	}
}
