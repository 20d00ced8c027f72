package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// fake is a health service written by hand. What is nil is not implemented.
type fake struct {
	healthpb.UnimplementedHealthServer
	check  func(ctx context.Context, service string) (*healthpb.HealthCheckResponse, error)
	watch  func(stream healthpb.Health_WatchServer) error
	checks atomic.Int64
}

func (f *fake) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	f.checks.Add(1)
	if f.check == nil {
		return f.UnimplementedHealthServer.Check(ctx, req)
	}
	return f.check(ctx, req.Service)
}

func (f *fake) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	if f.watch == nil {
		return f.UnimplementedHealthServer.Watch(req, stream)
	}
	return f.watch(stream)
}

func is(s healthpb.HealthCheckResponse_ServingStatus) *healthpb.HealthCheckResponse {
	return &healthpb.HealthCheckResponse{Status: s}
}

// rig follows a group for each of the services a and b of a health service.
type rig struct {
	*Follower
	took time.Duration // of Follow

	mu      sync.Mutex
	reports []string
}

// follow tests in a bubble, which fails if a goroutine is left after Stop.
func follow(t *testing.T, server healthpb.HealthServer, test func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r, began := &rig{}, time.Now()
		r.Follower = Follow(t.Context(), server, []Group{{Services: []string{"a"}}, {Services: []string{"b"}}}, func(group int, h Health) {
			r.mu.Lock()
			defer r.mu.Unlock()
			text := []string{"a", "b"}[group] + map[bool]string{true: " up", false: " down"}[h.OK]
			if h.Problem != "" {
				text += " " + h.Problem
			}
			r.reports = append(r.reports, text)
		})
		r.took = time.Since(began)
		test(r)
		r.Stop()
		r.Stop()
		r.take()
		time.Sleep(time.Hour)
		if after := r.take(); after != "" {
			t.Errorf("reported after Stop: %s", after)
		}
	})
}

// take returns the reports since it was last called.
func (r *rig) take() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.reports = nil }()
	slices.Sort(r.reports) // services are asked at the same time
	return strings.Join(r.reports, ", ")
}

func (r *rig) expect(t *testing.T, when, want string) {
	t.Helper()
	if got := r.take(); got != want {
		t.Errorf("%s: reported %q, want %q", when, got, want)
	}
}

// H4: what gRPC's own health service says is followed without a delay, both ways.
func TestHealth_FollowedAtOnce(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("a", down)
	follow(t, h, func(r *rig) {
		r.expect(t, "at first", "b up")
		h.SetServingStatus("a", up)
		r.expect(t, "a is well", "a up")
		time.Sleep(interval)
		h.SetServingStatus("", down)
		r.expect(t, "the server is not", "b down")
		time.Sleep(interval)
		h.SetServingStatus("", up)
		r.expect(t, "it is again", "b up")
		h.Shutdown()
		r.expect(t, "it shuts down", "a down")
		h.Resume()
	})
}

// However often it changes, there is one change a second, and the last one counts.
func TestHealth_OneChangeASecond(t *testing.T) {
	h := health.NewServer()
	follow(t, h, func(r *rig) {
		r.expect(t, "at first", "a up, b up")
		for i := range 1001 { // 10 s
			h.SetServingStatus("a", []healthpb.HealthCheckResponse_ServingStatus{down, up}[i%2])
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(interval)
		got := strings.Split(r.take(), ", ")
		if len(got) < 9 || len(got) > 11 || r.core.groups[0].told.OK {
			t.Errorf("reported %q", got)
		}
	})
}

// G20: a health service that has a Check alone.
func TestHealth_CheckAlone(t *testing.T) {
	var now atomic.Int32
	now.Store(int32(down))
	f := &fake{check: func(_ context.Context, service string) (*healthpb.HealthCheckResponse, error) {
		if service == "" {
			return nil, status.Error(codes.NotFound, "who?")
		}
		return is(healthpb.HealthCheckResponse_ServingStatus(now.Load())), nil
	}}
	follow(t, f, func(r *rig) {
		r.expect(t, "at first", "")
		now.Store(int32(up))
		time.Sleep(interval)
		r.expect(t, "healthy", "a up, b up")
		f.checks.Store(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := f.checks.Load(); n != 3*60 {
			t.Errorf("%d Checks of three services in a minute", n)
		}
	})
}

// G20: whatever the health service does, the process goes on, its last answer counts, and the problem names the fault.
func TestHealth_OfBadServices(t *testing.T) {
	said := func(does string) string {
		return fmt.Sprintf(`a up the health service's Check of "a" %s: what it said last counts, b up the health service's Check of "b" %[1]s: what it said last counts`, does)
	}
	for name, tt := range map[string]struct {
		service *fake
		want    string
	}{
		"Check panics":     {&fake{check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { panic("no") }}, said("panics: no")},
		"Check fails":      {&fake{check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return nil, errors.New("no") }}, said("fails: no")},
		"no response":      {&fake{check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return nil, nil }}, "a up, b up"},
		"nonsense":         {&fake{check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return is(77), nil }}, "a up, b up"},
		"nothing is there": {&fake{}, said("fails: rpc error: code = Unimplemented desc = method Check not implemented")},
		"Watch panics": {&fake{
			check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return is(up), nil },
			watch: func(healthpb.Health_WatchServer) error { panic("no") },
		}, "a up, b up"},
	} {
		t.Run(name, func(t *testing.T) {
			follow(t, tt.service, func(r *rig) {
				if r.took != 0 {
					t.Errorf("Follow took %v", r.took)
				}
				time.Sleep(time.Minute)
				r.expect(t, "in a minute", tt.want)
			})
		})
	}
}

// G20: a Check that hangs for one service keeps no other from being followed, and Follow and Stop do not wait for it.
func TestHealth_OfACheckThatHangs(t *testing.T) {
	released := sync.OnceValue(func() chan struct{} { return make(chan struct{}) }) // one of the bubble
	var b atomic.Int32
	b.Store(int32(up))
	f := &fake{check: func(_ context.Context, service string) (*healthpb.HealthCheckResponse, error) {
		if service == "a" {
			<-released()
			return is(down), nil
		}
		if service == "b" {
			return is(healthpb.HealthCheckResponse_ServingStatus(b.Load())), nil
		}
		return is(up), nil
	}}
	follow(t, f, func(r *rig) {
		if r.took > 2*interval {
			t.Errorf("Follow took %v", r.took)
		}
		r.expect(t, "at first", "a up, b up")
		time.Sleep(2 * interval)
		r.expect(t, "it hangs", `a up the health service's Check of "a" does not return: what it said last counts`)
		b.Store(int32(down))
		time.Sleep(interval)
		r.expect(t, "the other changes", "b down")
		close(released())
		r.expect(t, "it returns", "a down")
	})
}
