package election

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// TestYields_ToEffectiveDrain has the candidates a and b, and the candidate red
// in a lane.
func TestYields_ToEffectiveDrain(t *testing.T) {
	lane := []serviceconfig.Route{{Label: "lane"}}
	for name, tt := range map[string]struct {
		policy  serviceconfig.Etcd
		unknown bool
		want    bool
	}{
		"enough instances are left": {policy: serviceconfig.Etcd{
			Drain:             []serviceconfig.Drained{{Instance: "a"}},
			MinHealthyPercent: 60,
		}, want: true},
		"too few instances are left": {policy: serviceconfig.Etcd{
			Drain:             []serviceconfig.Drained{{Instance: "a"}},
			MinHealthyPercent: 70,
		}},
		"an instance in a lane is left": {policy: serviceconfig.Etcd{
			Drain: []serviceconfig.Drained{{Instance: "a"}, {Instance: "b"}},
			Route: lane,
		}, want: true},
		"no instance is left": {policy: serviceconfig.Etcd{Drain: []serviceconfig.Drained{
			{Instance: "10.0.0.1:1"}, {Instance: "10.0.0.2:1"}, {Instance: "10.0.0.3:1"}}}},
		"the endpoints are not known": {policy: serviceconfig.Etcd{
			Drain:             []serviceconfig.Drained{{Instance: "a"}},
			MinHealthyPercent: 60,
		}, unknown: true},
		"the drain has ended": {policy: serviceconfig.Etcd{
			Drain: []serviceconfig.Drained{{Instance: "a", Until: "2026-01-01T00:00:00Z"}},
		}},
		"the drain names a's address": {policy: serviceconfig.Etcd{
			Drain:             []serviceconfig.Drained{{Instance: "10.0.0.1:1"}},
			MinHealthyPercent: 60,
		}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Candidacy{Candidates: new(Candidates), instance: "a"}
			state := &discovery.State{KeyState: model.KeyState{Known: true}}
			all := []*listwatch.Item[string]{}
			for _, e := range []endpoint.Endpoint{
				{Instance: "a", Addr: "10.0.0.1:1"}, {Instance: "b", Addr: "10.0.0.2:1"},
				{Instance: "red", Addr: "10.0.0.3:1", Metadata: map[string]string{"lane": "red"}},
			} {
				state.Backends = append(state.Backends, &discovery.Backend{Endpoint: e})
				all = append(all, &listwatch.Item[string]{Value: e.Instance})
			}

			if tt.unknown {
				state = &discovery.State{}
			}

			s.seen.Store(&seen{all: all})
			s.live.Store(&livePolicy{&tt.policy, func() *discovery.State { return state }})

			if got := s.View().Yields; got != tt.want {
				t.Errorf("a yields: %t, want %t", got, tt.want)
			}
		})
	}
}

// The pauses of a call start short again after its first attempt at another
// leader, even if the last leader has refused the call for a long time.
func TestAwait_BeginsAnewWithEachLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Candidates{readers: map[*func()]struct{}{new(func()): {}}, stop: func() {}}
		c.seen.Store(&seen{Leader: Leader{First: First{Created: 2}}, known: true})

		pause := time.Duration(0)
		for _, row := range []struct {
			refuser int64
			want    time.Duration
		}{{2, repeatMin}, {2, 2 * repeatMin}, {1, 0}, {2, repeatMin}} {
			began := time.Now()
			pause = c.Await(t.Context(), row.refuser, pause)
			if pause != row.want || time.Since(began) != row.want {
				t.Errorf(
					"after a refusal by the leader %d a call waits %v, which counts as %v; want %v",
					row.refuser, time.Since(began), pause, row.want)
			}
		}
	})
}
