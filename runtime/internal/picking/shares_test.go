package picking

import (
	"context"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

func window(d time.Duration, percent uint32) *serviceconfig.SlowStart {
	return &serviceconfig.SlowStart{Window: serviceconfig.Duration(d), MinPercent: percent}
}

// startedAt returns the metadata of a server that started at a time.
func startedAt(at time.Time) map[string]string {
	return map[string]string{endpoint.StartedName: strconv.FormatInt(at.Unix(), 10)}
}

func TestSlowStart_Shares(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration) map[string]string { return startedAt(now.Add(-d)) }
	for what, tt := range map[string]struct {
		metadata map[string]string
		from     uint32        // percent
		later    time.Duration // the time since the address was ready
		want     float64
	}{
		"an entry without a start time": {nil, 0, 0, 1},
		"an entry with a huge start time": {
			map[string]string{endpoint.StartedName: strings.Repeat("9", 30)}, 0, 0, 1},
		"a server started before the window": {ago(11 * time.Second), 0, 0, 1},
		"a server started in the window":     {ago(9 * time.Second), 0, 0, 0.1},
		"a server whose clock is ahead":      {ago(-time.Hour), 0, 0, 0.1},
		"after half of the window":           {ago(0), 0, 5 * time.Second, 0.55},
		"after the window":                   {ago(0), 0, 10 * time.Second, 1},
		"growth that begins at 50 percent":   {ago(0), 50, 2 * time.Second, 0.6},
		"growth that begins at 100 percent":  {ago(0), 100, 2 * time.Second, 1},
		"a time before the start of growth":  {ago(0), 0, -time.Second, 0.1},
	} {
		var x Stats
		x.Ready(&endpoint.Endpoint{Metadata: tt.metadata}, now)

		got, _ := x.start.Load().share(window(10*time.Second, tt.from),
			now.Add(tt.later).Sub(epoch))
		if math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: the share is %v, want %v", what, got, tt.want)
		}
	}
}

func TestSlowStart_BeginsWithTheServer(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var x Stats
	x.Ready(nil, now)
	first := &endpoint.Endpoint{Metadata: startedAt(now)}
	x.Ready(first, now.Add(time.Second))
	before := x.start.Load()
	x.Ready(first, now.Add(2*time.Second))

	if x.start.Load() != before {
		t.Errorf("after a reconnect the slow start is %+v, want it unchanged: %+v", x.start.Load(),
			before)
	}

	x.Ready(&endpoint.Endpoint{Metadata: startedAt(now.Add(time.Second))}, now.Add(3*time.Second))

	if s := x.start.Load(); s.since != before.since+2*time.Second || !s.valid {
		t.Errorf(
			"after a restart of the server the slow start is %+v, want a valid one from 2s after %v",
			s, before.since)
	}
}

// startMember makes member i ready just after the start of its server.
func (s *Set) startMember(i int, now time.Duration) {
	s.members[i].Ready(&endpoint.Endpoint{Metadata: startedAt(epoch.Add(now))}, epoch.Add(now))
}

// pickAt picks a member at the time now.
func (s *Set) pickAt(policy Policy, now time.Duration) int {
	if _, ok := policy.(peakEwma); ok {
		return s.cheapest(now)
	}

	// stores the table for now, which is so far ahead of the clock that Pick
	// uses this table
	s.currentAt(now)

	return policy.Pick(context.Background(), &calloptions.Options{}, s)
}

// TestSlowStart_GrowsLinearly counts the picks in each second of a window of
// ten seconds.
func TestSlowStart_GrowsLinearly(t *testing.T) {
	for _, tt := range []struct {
		by      Policy
		weights []uint32
		full    float64
	}{
		{roundRobin{}, []uint32{1, 1, 1, 1}, 1},
		{weighted{}, []uint32{10, 10, 10, 30}, 3},
		{peakEwma{}, []uint32{1, 1, 1, 1}, 1},
	} {
		now := time.Hour
		s := setOf(tt.by, window(10*time.Second, 10), tt.weights...)
		s.startMember(3, now)

		shares := s.makeTable(now + 5*time.Second).shares
		if math.Abs(shares[3]-0.55) > 1e-9 {
			t.Errorf("after half of the window the shares are %v, want 0.55 for the last member",
				shares)
		}

		for second := range 12 {
			picks := make([]int, 4)
			const rounds = 4000 // enough for random deviations to stay within the tolerance
			for range rounds {
				var under [10]int
				for i := range under {
					under[i] = s.pickAt(tt.by, now)
					s.members[under[i]].Begin(0)
					picks[under[i]]++
				}

				now += time.Second / rounds
				for _, i := range under {
					s.members[i].calls.Add(-1)
					s.members[i].peak.end(time.Millisecond, now, nil)
				}
			}

			share := float64(picks[3]) / (float64(picks[0]+picks[1]+picks[2]) / 3) / tt.full

			want := min(1, 0.1+0.9*(float64(second)+0.5)/10)
			if math.Abs(share-want) > 0.03 {
				t.Errorf("%T: in second %d the new member gets %.3f of its full share, want %.3f",
					tt.by, second, share, want)
			}
		}
	}
}
