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
// synctest bubble, which fails if a goroutine is left after Stop. expect
// compares the reports since its last call.
func follow(
	t *testing.T,
	server healthpb.HealthServer,
	test func(expect func(situation, want string)),
) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		reports := make(chan string, 100)
		f := Follow(t.Context(), server, []Group{{Services: []string{"a"}},
			{Services: []string{"b"}}}, func(group int, h Health) {
			reports <- strings.TrimSpace([]string{"a", "b"}[group] + map[bool]string{
				true:  " up ",
				false: " down ",
			}[h.OK] + h.Problem)
		})

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
		return fmt.Sprintf(`a up the health service's Check of "a" %s: its last result counts, b up the health service's Check of "b" %[1]s: its last result counts`, does)
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
	// made in the bubble
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
		expect("b changes meanwhile", "b down")
		close(released())
		expect("Check of a returns", "a down")
	})
}

// TestCore follows two groups: group 0 of service a, and group 1 of services b
// and c. Clients check c.
func TestCore(t *testing.T) {
	const unknown = 0
	type step struct {
		at      time.Duration
		service string
		status  servingStatus
		problem string
		want    string // the reports of this step
	}

	const second, ms = time.Second, time.Millisecond
	for name, steps := range map[string][]step{
		"an unknown service has the server's health": {
			{0, "", up, "", "0 up, 1 up"},
			{9 * second, "", down, "", "0 down, 1 down"},
			{10 * second, "a", up, "", "0 up"},
			{11 * second, "b", up, "", ""},
			{12 * second, "c", up, "", "1 up"},
			{13 * second, "a", unknown, "", "0 down"},
		},
		"one unhealthy service makes its group unhealthy": {
			{0, "b", up, "", "0 up, 1 up"},
			{9 * second, "c", down, "", "1 down"},
		},
		"a change is reported at once, and the next time that the group is unhealthy, a second later": {
			{0, "a", down, "", "1 up"},
			{5 * ms, "a", up, "", "0 up"},
			{10 * ms, "a", down, "", ""},
			{20 * ms, "a", up, "", ""},
			{30 * ms, "a", down, "", ""},
			{1004 * ms, "a", down, "", ""},
			{1005 * ms, "a", down, "", "0 down"},
			{1006 * ms, "b", down, "", "1 down"},
			{1007 * ms, "a", up, "", "0 up"},
		},
		"a problem keeps the status, and is reported": {
			{0, "a", up, "", "0 up, 1 up"},
			{9 * second, "a", 0, "fails",
				`0 up the health service's Check of "a" fails: its last result counts`},
			{18 * second, "a", down, "", "0 down"},
			{27 * second, "a", 0, "hangs",
				`0 down the health service's Check of "a" hangs: its last result counts`},
			{28 * second, "a", 0, "hangs", ""},
		},
		"a name that clients check and the health service does not know": {
			{0, "c", unknown, "", `0 up, 1 up the health service does not know "c", so all calls of clients with health_check fail: ` +
				`call healthServer.SetServingStatus("c", healthpb.HealthCheckResponse_SERVING)`},
			{9 * second, "c", down, "", "1 down"},
		},
	} {
		c := &core{[]*followed{
			{Group: Group{Services: []string{"a"}}},
			{Group: Group{Services: []string{"b", "c"}, Checked: []string{"c"}}},
		}, make(map[string]servingStatus), make(map[string]string)}

		start := time.Now()
		for i, s := range steps {
			c.answered(s.service, s.status, s.problem)

			var got []string
			for _, i := range c.due(start.Add(s.at)) {
				h := c.groups[i].reported
				got = append(got, strings.TrimSpace(fmt.Sprint(i, " ",
					map[bool]string{true: "up", false: "down"}[h.OK], " ", h.Problem)))
			}

			if got := strings.Join(got, ", "); got != s.want {
				t.Errorf("%s: step %d, Check of %q: reports %q, want %q", name, i, s.service, got,
					s.want)
			}
		}
	}
}
