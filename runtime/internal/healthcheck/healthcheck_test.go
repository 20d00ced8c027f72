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

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// fake is a health service whose methods a test sets.
type fake struct {
	healthpb.UnimplementedHealthServer
	check  func(service string) (*healthpb.HealthCheckResponse, error) // nil: not implemented
	checks atomic.Int64
}

func (f *fake) Check(
	ctx context.Context,
	req *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	f.checks.Add(1)

	if f.check == nil {
		return f.UnimplementedHealthServer.Check(ctx, req)
	}

	return f.check(req.Service)
}

func response(s healthpb.HealthCheckResponse_ServingStatus) *healthpb.HealthCheckResponse {
	return &healthpb.HealthCheckResponse{Status: s}
}

// follow runs test with a Follower of two groups, of service a and of b, in a
// synctest bubble, which fails if a goroutine still runs after Stop. expect
// compares the reports since its last call with want.
func follow(
	t *testing.T,
	server healthpb.HealthServer,
	test func(expect func(situation, want string)),
) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b"}
		groups := []Group{{Services: names[:1]}, {Services: names[1:]}}
		reports := make(chan string, 100)
		report := func(group int, h Health) { reports <- h.text(names[group]) }

		began := time.Now()
		f := Follow(t.Context(), server, groups, report)

		if took := time.Since(began); took >= 2*interval {
			t.Errorf("Follow took %v, want less than %v", took, 2*interval)
		}

		expect := func(situation, want string) {
			t.Helper()

			synctest.Wait()

			var got []string
			for range len(reports) {
				got = append(got, <-reports)
			}

			slices.Sort(got) // services are checked concurrently
			if got := strings.Join(got, ", "); got != want {
				t.Errorf("%s: reported %q, want %q", situation, got, want)
			}
		}

		test(expect)
		f.Stop()
		f.Stop()
		time.Sleep(time.Hour)
		expect("after Stop", "")
	})
}

// TestHealth_FollowedAtOnce changes the status in gRPC's own health service,
// both ways.
func TestHealth_FollowedAtOnce(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("a", down)

	follow(t, h, func(expect func(when, want string)) {
		expect("at first", "b up")
		h.SetServingStatus("a", up)
		expect("a is set to SERVING", "a up")
		time.Sleep(interval)
		h.SetServingStatus("", down)
		expect("the server is set to NOT_SERVING", "b down")
		h.SetServingStatus("", up)
		expect("the server is set to SERVING", "b up")
		h.Shutdown()
		expect("the health service shuts down", "a down")
		h.Resume()
	})
}

// TestHealth_FaultyServices follows faulty health services: the process goes
// on, the last result of Check counts, and the problem names the fault. There
// is one Check a second (G20).
func TestHealth_FaultyServices(t *testing.T) {
	said := func(does string) string {
		return fmt.Sprintf(`a up the health service's Check of "a" %s: its last result counts, `+
			`b up the health service's Check of "b" %[1]s: its last result counts`, does)
	}

	for name, tt := range map[string]struct {
		check func(string) (*healthpb.HealthCheckResponse, error)
		want  string
	}{
		"Check fails": {func(string) (*healthpb.HealthCheckResponse, error) {
			return nil, errors.New("no")
		}, said("fails: no")},
		"nil response": {func(string) (*healthpb.HealthCheckResponse, error) {
			return nil, nil
		}, "a up, b up"},
		"unknown status": {func(string) (*healthpb.HealthCheckResponse, error) {
			return response(77), nil
		}, "a up, b up"},
		"not implemented": {nil,
			said("fails: rpc error: code = Unimplemented desc = method Check not implemented")},
	} {
		f := &fake{check: tt.check}
		follow(t, f, func(expect func(when, want string)) {
			time.Sleep(time.Minute)
			expect(name+" for a minute", tt.want)

			if n := f.checks.Load(); n < 3*60 || n > 3*62 {
				t.Errorf("%s: there were %d Checks of three services in a minute, want 180 to 186",
					name, n)
			}
		})
	}
}

// TestHealth_OneCheckHangs checks that other services are followed while Check
// of one hangs, and that Follow and Stop do not wait for that Check (G20).
func TestHealth_OneCheckHangs(t *testing.T) {
	// the first call makes the channel in the synctest bubble
	released := sync.OnceValue(func() chan struct{} { return make(chan struct{}) })
	var b atomic.Int32
	b.Store(int32(up))

	f := &fake{check: func(service string) (*healthpb.HealthCheckResponse, error) {
		switch service {
		case "a":
			<-released()
			return response(down), nil
		case "b":
			return response(healthpb.HealthCheckResponse_ServingStatus(b.Load())), nil
		}

		return response(up), nil
	}}

	follow(t, f, func(expect func(when, want string)) {
		expect("at first", "a up, b up")
		time.Sleep(2 * interval)
		expect("Check of a hangs",
			`a up the health service's Check of "a" does not return: its last result counts`)
		b.Store(int32(down))
		time.Sleep(interval)
		expect("b changes", "b down")
		close(released())
		expect("Check of a returns", "a down")
	})
}
