package healthcheck

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// slowSetter is a health service that waits, panics, and remembers.
type slowSetter struct {
	healthpb.UnimplementedHealthServer
	release chan struct{} // nil: does not wait
	panics  bool
	told    map[string]healthpb.HealthCheckResponse_ServingStatus
}

func (s *slowSetter) SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus) {
	if s.release != nil {
		<-s.release
	}
	if s.panics {
		panic("no health")
	}
	s.told[service] = status
}

func TestSetter(t *testing.T) {
	const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	synctest.Test(t, func(t *testing.T) {
		server := &slowSetter{told: make(map[string]healthpb.HealthCheckResponse_ServingStatus)}
		setter := new(Shares).NewSetter(server, slog.New(slog.DiscardHandler))
		setter.Set(up, "a", "b")
		if len(server.told) != 2 || server.told["a"] != up {
			t.Errorf("told %v when Set has returned", server.told)
		}

		server.release = make(chan struct{})
		start := time.Now()
		setter.Set(down, "a")
		if took := time.Since(start); took != setWait {
			t.Errorf("Set waited %v for a health service that waits, want %v", took, setWait)
		}
		setter.Set(up, "a")
		setter.Set(down, "b")
		if took := time.Since(start); took != setWait {
			t.Errorf("Set waited again, %v in all", took)
		}
		close(server.release)
		synctest.Wait()
		if server.told["a"] != up || server.told["b"] != down {
			t.Errorf("told %v at last, want the latest", server.told)
		}

		server.panics = true
		setter.Set(down, "a")
		server.panics = false
		setter.Set(down, "a")
		if server.told["a"] != down {
			t.Error("nothing is told after a panic")
		}
	})
}

// A service is turned unless another server follows it, and is what it was when the drain has ended or another
// server begins.
func TestSetterTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shares Shares
		server, services, log := health.NewServer(), []string{"a"}, slog.New(slog.DiscardHandler)
		var f *Follower
		follow := func() { f, _ = shares.Follow(t.Context(), server, [][]string{services}, func(int, bool) {}, log) }
		one, other := shares.NewSetter(server, log), shares.NewSetter(server, log)
		for i, step := range []struct {
			do   func()
			want servingStatus
		}{
			{func() { one.Turn(services...) }, notServing},
			{func() { other.Turn(services...); other.Restore(services...) }, notServing},
			{func() { one.Restore(services...) }, unknown},
			{func() { one.Turn(services...); server.SetServingStatus("a", serving); one.Restore(services...) }, serving},
			{func() { follow(); one.Turn(services...) }, serving},
			{func() { f.Stop(); one.Turn(services...) }, notServing},
			{func() { follow(); one.Restore(services...); f.Stop() }, serving},
			{func() { server.SetServingStatus("a", notServing); one.Turn(services...); one.Restore(services...) }, notServing},
		} {
			step.do()
			synctest.Wait()
			resp, err := server.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "a"})
			if got := resp.GetStatus(); got != step.want {
				t.Errorf("after step %d the service is %v (%v), want %v", i, got, err, step.want)
			}
		}
		if len(shares.of) > 0 {
			t.Errorf("kept: %v", shares.of)
		}
	})
}
