// Package healthcheck follows the health of services at a gRPC health service
// of this process. It calls Check once a second, and at once after a message of
// Watch. The health service is code of the library's user, which may hang.
//
//	core.go         decides the health of each group, and when to report it
//	healthcheck.go  its shell: calls Check, and reports
package healthcheck

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
)

// Follower follows the health of groups of services.
type Follower struct {
	server healthpb.HealthServer
	cancel context.CancelFunc

	mu   sync.Mutex // guards the fields below, and is held while report is called
	core core

	// nil while Follow waits for the first results of Check
	report func(group int, h Health)
}

// Follow follows the health of groups at server until Stop. It returns when
// Check has returned for each service, after 1 s, or when ctx ends. A service
// without a result counts as healthy. Follow calls report for each healthy
// group before it returns, and then at each change, one call at a time. The
// health service gets the values of ctx, but not its cancellation.
func Follow(
	ctx context.Context,
	server healthpb.HealthServer,
	groups []Group,
	report func(group int, h Health),
) *Follower {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &Follower{server: server, cancel: cancel, core: newCore(groups)}

	services := []string{""}
	for _, g := range groups {
		services = slices.Concat(services, g.Services, g.Checked)
	}

	slices.Sort(services)

	var unanswered sync.WaitGroup
	for _, service := range slices.Compact(services) {
		unanswered.Add(1)
		go f.poll(life, service, sync.OnceFunc(unanswered.Done))
	}

	first, stop := context.WithTimeout(ctx, interval)
	defer stop()

	bounded.Run(first, unanswered.Wait)

	f.mu.Lock()
	defer f.mu.Unlock()

	f.report = report
	f.reportDue()

	return f
}

// Stop ends the reports, and waits for a report under way. It must not be
// called in report, nor under a lock that report takes.
func (f *Follower) Stop() {
	f.cancel()
	f.mu.Lock() // held while report is called
	defer f.mu.Unlock()
}

// onCheck passes the result of a Check to the core, and reports the groups that
// are due.
func (f *Follower) onCheck(
	ctx context.Context,
	service string,
	status servingStatus,
	problem string,
) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.core.onCheck(service, status, problem)

	if f.report != nil && ctx.Err() == nil {
		f.reportDue()
	}
}

// reportDue reports the groups that are due. It must be called with mu held.
func (f *Follower) reportDue() {
	for _, i := range f.core.due(time.Now()) {
		f.report(i, f.core.groups[i].reported)
	}
}

// poll calls Check for a service until ctx ends, one call at a time. After each
// Check, it calls answered.
func (f *Follower) poll(ctx context.Context, service string, answered func()) {
	request := &healthpb.HealthCheckRequest{Service: service}
	sent := make(chan struct{}, 1)
	go func() { _ = f.server.Watch(request, watch{nil, ctx, sent}) }()

	for ctx.Err() == nil {
		hangs := time.AfterFunc(2*interval, func() {
			f.onCheck(ctx, service, 0, "does not return")
		})
		got, problem := f.check(ctx, request)
		hangs.Stop()

		f.onCheck(ctx, service, got, problem)
		answered()

		select {
		case <-ctx.Done():
		case <-sent:
		case <-time.After(interval):
		}
	}
}

// check calls Check once. Its context ends after 1 s.
func (f *Follower) check(
	ctx context.Context,
	request *healthpb.HealthCheckRequest,
) (got servingStatus, problem string) {
	ctx, cancel := context.WithTimeout(ctx, interval)
	defer cancel()

	resp, err := f.server.Check(ctx, request)
	if err != nil && status.Code(err) != codes.NotFound {
		return 0, fmt.Sprint("fails: ", err)
	}

	return resp.GetStatus(), ""
}

// watch is the stream of a Watch. Each message triggers a Check; its content is
// ignored.
type watch struct {
	grpc.ServerStream // nil: no Watch needs its methods
	ctx               context.Context
	sent              chan struct{}
}

func (w watch) Context() context.Context {
	return w.ctx
}

func (w watch) Send(*healthpb.HealthCheckResponse) error {
	select {
	case w.sent <- struct{}{}:
	default:
	}

	return w.ctx.Err()
}
