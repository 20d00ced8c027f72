// Package healthcheck follows the health of services at a gRPC health service
// of this process. It calls Check once a second, and at once after a message of
// Watch. The health service is code of the library's user, which may hang.
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
	mu     sync.Mutex // guards the fields below, and is held while report is called
	core   core

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
	f := &Follower{
		server: server,
		cancel: cancel,
		core:   core{nil, make(map[string]servingStatus), make(map[string]string)},
	}

	services := []string{""}
	for _, g := range groups {
		f.core.groups = append(f.core.groups, &followed{Group: g})
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

// answered passes the result of a Check to the core, and reports the groups
// that are due.
func (f *Follower) answered(
	ctx context.Context,
	service string,
	status servingStatus,
	problem string,
) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.core.answered(service, status, problem)

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

// poll calls Check for a service until ctx ends, one call at a time.
func (f *Follower) poll(ctx context.Context, service string, first func()) {
	request := &healthpb.HealthCheckRequest{Service: service}
	sent := make(chan struct{}, 1)
	go func() {
		_ = f.server.Watch(request, watch{nil, ctx, sent})
	}()

	for ctx.Err() == nil {
		hangs := time.AfterFunc(2*interval, func() {
			f.answered(ctx, service, 0, "does not return")
		})
		got, problem := f.check(ctx, request)
		hangs.Stop()
		f.answered(ctx, service, got, problem)
		first()

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

// interval is the pause between two Checks of a service, and the minimum time
// between two changes of a group.
const interval = time.Second

type servingStatus = healthpb.HealthCheckResponse_ServingStatus

const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING

// Group is a set of services with one health.
type Group struct {
	Services []string // the group is unhealthy while one of these is NOT_SERVING
	Checked  []string // the names that clients with health_check watch
}

// followed is a group and its last report.
type followed struct {
	Group
	reported  Health
	changedAt time.Time // when reported.OK last changed
}

// Health is the health of a group. Problem describes a fault of the health
// service itself, which makes no group unhealthy.
type Health struct {
	OK      bool
	Problem string
}

// core decides the health of each group, and when to report it.
type core struct {
	groups []*followed

	// by service, or "" for the whole server; values other than up and down
	// mean unknown
	statuses map[string]servingStatus

	problems map[string]string // by service, the fault of the last Check, or ""
}

// answered handles the result of a Check. A problem leaves the status
// unchanged.
func (c *core) answered(service string, status servingStatus, problem string) {
	c.problems[service] = problem

	if problem == "" {
		c.statuses[service] = status
	}
}

// due returns the indexes of the groups to report now. A group that becomes
// unhealthy too soon after its last change waits for a later Check.
func (c *core) due(now time.Time) (groups []int) {
	for i, g := range c.groups {
		health := c.health(g)
		changed := health.OK != g.reported.OK
		if changed && !health.OK && now.Before(g.changedAt.Add(interval)) {
			health.OK = g.reported.OK
		} else if changed {
			g.changedAt = now
		}

		if health != g.reported {
			g.reported = health
			groups = append(groups, i)
		}
	}

	return groups
}

// health returns the health of a group. A service of unknown status has the
// health of the whole server.
func (c *core) health(g *followed) Health {
	h := Health{OK: true}
	for _, name := range g.Services {
		status := c.statuses[name]
		h.OK = h.OK && status != down && (status == up || c.statuses[""] != down)

		if problem := c.problems[name]; problem != "" {
			h.Problem = fmt.Sprintf(
				"the health service's Check of %q %s: its last result counts", name,
				problem)
		}
	}

	for _, name := range g.Checked {
		status, ok := c.statuses[name]
		if ok && status != up && status != down && h.Problem == "" {
			h.Problem = fmt.Sprintf("the health service does not know %q, so all calls of clients with health_check fail: call healthServer.SetServingStatus(%[1]q, healthpb.HealthCheckResponse_SERVING)", name)
		}
	}

	return h
}
