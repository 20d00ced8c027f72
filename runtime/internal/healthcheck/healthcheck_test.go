package healthcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
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
	check func(ctx context.Context, service string) (*healthpb.HealthCheckResponse, error)
	watch func(service string, stream healthpb.Health_WatchServer) error

	checks, watches atomic.Int64
	open, most      atomic.Int64 // calls under way, and the most at once
}

// count counts a call until done.
func (f *fake) count(calls *atomic.Int64) (done func()) {
	calls.Add(1)
	for open, most := f.open.Add(1), f.most.Load(); open > most && !f.most.CompareAndSwap(most, open); most = f.most.Load() {
	}
	return func() { f.open.Add(-1) }
}

func (f *fake) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	defer f.count(&f.checks)()
	if f.check == nil {
		return f.UnimplementedHealthServer.Check(ctx, req)
	}
	return f.check(ctx, req.Service)
}

func (f *fake) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	defer f.count(&f.watches)()
	if f.watch == nil {
		return f.UnimplementedHealthServer.Watch(req, stream)
	}
	return f.watch(req.Service, stream)
}

func is(status servingStatus) *healthpb.HealthCheckResponse {
	return &healthpb.HealthCheckResponse{Status: status}
}

// rig follows a health service in a bubble of synctest's.
type rig struct {
	*Follower
	first  []bool
	took   time.Duration // until Follow returned
	mu     sync.Mutex
	log    bytes.Buffer
	report []string
}

// Write takes the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// in runs a test of a health service whose services are the groups, in a bubble. A goroutine that is
// left after Stop fails it.
func in(t *testing.T, server healthpb.HealthServer, services []string, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, server, services)
		test(t, r)
		r.end(t)
	})
}

func newRig(t *testing.T, server healthpb.HealthServer, services []string) *rig {
	r := &rig{}
	var groups [][]string
	for _, service := range services {
		groups = append(groups, []string{service})
	}
	began := time.Now()
	r.Follower, r.first = new(Shares).Follow(t.Context(), server, groups, func(group int, healthy bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.report = append(r.report, fmt.Sprint(services[group], " ", healthy))
	}, slog.New(slog.NewTextHandler(r, nil)))
	r.took = time.Since(began)
	return r
}

func (r *rig) end(t *testing.T) {
	r.Stop()
	r.Stop()
	time.Sleep(time.Hour)
	r.expect(t, "after Stop")
}

// expect checks the reports since the last time.
func (r *rig) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.report, ", "); got != strings.Join(want, ", ") {
		t.Errorf("%s: reported %q, want %q", when, got, strings.Join(want, ", "))
	}
	r.report = nil
}

// logged checks how many lines were logged, and what the last says.
func (r *rig) logged(t *testing.T, lines int, last string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := strings.Split(strings.TrimSuffix(r.log.String(), "\n"), "\n")
	if r.log.Len() == 0 {
		all = []string{""}[:0]
	}
	if len(all) != lines || lines > 0 && !strings.Contains(all[lines-1], last) {
		t.Errorf("logged %d lines, want %d with %q:\n%s", len(all), lines, last, r.log.String())
	}
}

func TestFollowsGRPCsOwn(t *testing.T) {
	h := health.NewServer()
	h.SetServingStatus("a", notServing)
	in(t, h, []string{"a", "b", ""}, func(t *testing.T, r *rig) {
		if got := fmt.Sprint(r.first); got != "[false true true]" || r.took != 0 {
			t.Errorf("at first %s, after %v", got, r.took)
		}
		h.SetServingStatus("a", serving)
		time.Sleep(settle)
		r.expect(t, "a is well", "a true")
		h.SetServingStatus("", notServing)
		r.expect(t, "the server is not", "b false", " false")
		time.Sleep(spacing)
		h.SetServingStatus("", serving)
		time.Sleep(settle)
		r.expect(t, "it is again", "b true", " true")
		r.logged(t, 0, "")
		r.Stop()
		h.Shutdown()
	})
}

func TestG20_CheckOnly(t *testing.T) {
	var now atomic.Int32
	now.Store(int32(notServing))
	f := &fake{check: func(_ context.Context, service string) (*healthpb.HealthCheckResponse, error) {
		if service == "" {
			return nil, status.Error(codes.NotFound, "who?")
		}
		return is(servingStatus(now.Load())), nil
	}}
	in(t, f, []string{"a"}, func(t *testing.T, r *rig) {
		if r.first[0] || r.took != 0 {
			t.Errorf("at first %v, after %v, want it unhealthy at once", r.first, r.took)
		}
		now.Store(int32(serving))
		time.Sleep(checkInterval + settle)
		r.expect(t, "it turned healthy", "a true")
		now.Store(int32(notServing))
		time.Sleep(spacing)
		r.expect(t, "it turned unhealthy", "a false")
		checks := f.checks.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		if more, watches := f.checks.Load()-checks, f.watches.Load(); more != 2*60 || watches != 2 {
			t.Errorf("%d Checks of two services in a minute, and %d Watches in all", more, watches)
		}
		r.logged(t, 0, "")
	})
}

func TestG20_CheckWaits(t *testing.T) {
	const services = 20
	var names []string
	for i := range services - 1 {
		names = append(names, fmt.Sprint(i))
	}
	for _, honours := range []bool{true, false} {
		t.Run(fmt.Sprint("ends with its context ", honours), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				free := make(chan struct{})
				f := &fake{check: func(ctx context.Context, _ string) (*healthpb.HealthCheckResponse, error) {
					if honours {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					<-free
					return is(notServing), nil
				}}
				r := newRig(t, f, names)
				if r.took != firstWait || slices.Contains(r.first, false) {
					t.Errorf("Follow took %v, and took silence for %v", r.took, r.first)
				}
				time.Sleep(time.Minute)
				if most := f.most.Load(); most != services {
					t.Errorf("%d calls of %d services at once", most, services)
				}
				if calls := f.checks.Load(); !honours && calls != services {
					t.Errorf("%d Checks of %d services, each of which hangs", calls, services)
				}
				r.logged(t, 1, "health service's Check")
				r.expect(t, "it waits")
				r.Stop()
				close(free)
				r.end(t)
			})
		})
	}
}

func TestG20_FollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{check: func(ctx context.Context, _ string) (*healthpb.HealthCheckResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		began := time.Now()
		follower, first := new(Shares).Follow(ctx, f, [][]string{{"a"}}, func(int, bool) { t.Error("reported") }, slog.New(slog.DiscardHandler))
		if took := time.Since(began); took != 10*ms || !first[0] {
			t.Errorf("returned %v after %v", first, took)
		}
		time.Sleep(10 * s) // it goes on
		if calls := f.checks.Load(); calls < 2*4 {
			t.Errorf("%d Checks: the follower ended with the context", calls)
		}
		follower.Stop()
	})
}

// hostile is an error whose methods panic.
type hostile struct{}

func (*hostile) Error() string { panic("no text") }

func TestG20_NothingEndsTheProcess(t *testing.T) {
	for name, f := range map[string]*fake{
		"Check panics": {check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { panic("at the check") }},
		"Watch panics": {watch: func(string, healthpb.Health_WatchServer) error { panic("at the watch") }},
		"Watch panics after a status": {watch: func(_ string, stream healthpb.Health_WatchServer) error {
			_ = stream.Send(is(serving))
			panic(errors.New("later"))
		}},
		"both end their goroutine": {
			check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) {
				runtime.Goexit()
				return nil, nil
			},
			watch: func(string, healthpb.Health_WatchServer) error { runtime.Goexit(); return nil },
		},
		"the error panics":   {check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return nil, &hostile{} }},
		"no response":        {check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return nil, nil }},
		"an unknown status":  {check: func(context.Context, string) (*healthpb.HealthCheckResponse, error) { return is(77), nil }},
		"Watch sends nil":    {watch: func(_ string, stream healthpb.Health_WatchServer) error { return stream.Send(nil) }},
		"Watch sends others": {watch: func(_ string, stream healthpb.Health_WatchServer) error { return stream.SendMsg("x") }},
		"neither is there":   {},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, f, []string{"a"}, func(t *testing.T, r *rig) {
				if !r.first[0] {
					t.Error("unhealthy at first")
				}
				time.Sleep(5 * time.Minute)
				r.expect(t, "nothing is known")
				r.mu.Lock()
				lines := strings.Count(r.log.String(), "\n")
				r.mu.Unlock()
				if want := 1; name != "neither is there" && (lines < want || lines > 2) || name == "neither is there" && lines > 0 {
					t.Errorf("logged %d lines in 5 minutes:\n%s", lines, r.log.String())
				}
			})
		})
	}
}

// A Watch may send from several goroutines, one message again and again, and after it has returned.
func TestG20_WatchSendsAsItLikes(t *testing.T) {
	flap := func(stream healthpb.Health_WatchServer) {
		resp := is(serving)
		for i := range 1000 {
			resp.Status = []servingStatus{serving, notServing}[i%2]
			if stream.Send(resp) != nil {
				return
			}
		}
	}
	f := &fake{watch: func(service string, stream healthpb.Health_WatchServer) error {
		for range 4 {
			go flap(stream)
		}
		if service == "a" {
			go func() {
				<-stream.Context().Done()
				if err := stream.Send(is(notServing)); status.Code(err) != codes.Canceled {
					t.Errorf("Send after the end: %v", err)
				}
			}()
			return nil
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}}
	in(t, f, []string{"a", "b"}, func(t *testing.T, r *rig) {
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.report) > 2 {
			t.Errorf("reported %q", r.report)
		}
		r.report = nil
		r.Stop()
	})
}

// A health service may hold, while it sends, a lock that report needs.
func TestG20_SendDoesNotWaitForReport(t *testing.T) {
	var mu sync.Mutex
	sent := make(chan struct{})
	f := &fake{watch: func(_ string, stream healthpb.Health_WatchServer) error {
		mu.Lock()
		for i := range 100 {
			if err := stream.Send(is([]servingStatus{serving, notServing}[i%2])); err != nil {
				t.Errorf("Send: %v", err)
			}
		}
		mu.Unlock()
		sent <- struct{}{}
		<-stream.Context().Done()
		return nil
	}}
	reported := make(chan struct{}, 100)
	follower, first := new(Shares).Follow(t.Context(), f, [][]string{{"a"}}, func(int, bool) {
		mu.Lock()
		defer mu.Unlock()
		reported <- struct{}{}
	}, slog.New(slog.DiscardHandler))
	<-sent
	<-sent
	if first[0] {
		<-reported
	}
	follower.Stop()
}

func TestStream(t *testing.T) {
	st := &stream{ctx: t.Context(), send: func(*healthpb.HealthCheckResponse) {}}
	st.SetTrailer(nil)
	if err := errors.Join(st.SetHeader(nil), st.SendHeader(nil), st.SendMsg(is(serving))); err != nil {
		t.Error(err)
	}
	if err := st.RecvMsg(nil); !errors.Is(err, io.EOF) {
		t.Errorf("RecvMsg: %v", err)
	}
	if err := st.SendMsg("x"); status.Code(err) != codes.Internal {
		t.Errorf("SendMsg of another type: %v", err)
	}
	st.end()
	if err := st.Send(is(serving)); status.Code(err) != codes.Canceled {
		t.Errorf("Send after the end: %v", err)
	}
}
