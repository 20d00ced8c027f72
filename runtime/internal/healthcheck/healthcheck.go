// Package healthcheck follows the health of services at a gRPC health service of this process, by Watch or,
// where there is no Watch, by Check. The health service is the caller's code. It may block, panic or answer
// nonsense; that neither ends the process nor keeps it waiting.
package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Follower follows the health of groups of services.
type Follower struct {
	server healthpb.HealthServer
	report func(group int, healthy bool)
	logger *slog.Logger

	ctx    context.Context // of the calls of server
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	events *inbox

	core  *core
	timer *time.Timer
}

// Follow follows the health of groups of services at server, which must not be nil, until Stop. It returns
// whether each group is healthy when there is an answer for each service, after 1 s, or when ctx ends,
// whichever comes first. A group without answers counts as healthy. The health service gets the values of ctx,
// but not its end.
//
// report is called at each change after that, one call at a time and never after Stop has returned. See
// damping.go for the spacing of reports.
//
// One goroutine reports. Each service has another for its Watch, and one for its Check while that is polled.
func (s *Shares) Follow(ctx context.Context, server healthpb.HealthServer, groups [][]string, report func(group int, healthy bool), logger *slog.Logger) (*Follower, []bool) {
	f := &Follower{
		server: server, report: report, logger: logger,
		done: make(chan struct{}), events: newInbox(),
		core: newCore(groups, time.Now()), timer: time.NewTimer(0),
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.join(server, slices.Concat(groups...))
	for hurry := ctx.Done(); !f.core.reports; {
		select {
		case <-hurry:
			hurry = nil
			f.feed(event{kind: eventHurry})
		case <-f.timer.C:
			f.feed(event{})
		case <-f.events.filled:
			f.feed(f.events.take())
		}
	}
	first := f.core.first()
	go func() {
		defer close(f.done)
		defer s.leave(server, slices.Concat(groups...))
		f.run()
	}()
	return f, first
}

// Stop ends the calls of the health service, and returns when no report is under way. It does not wait
// for a call that does not return when its context ends; the goroutine of such a call ends when the
// call does. Stop must not be called from report, nor with a lock held that report takes. It may be
// called more than once.
func (f *Follower) Stop() {
	f.cancel()
	<-f.done
}

func (f *Follower) run() {
	defer f.timer.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.timer.C:
			f.feed(event{})
		case <-f.events.filled:
			f.feed(f.events.take())
		}
	}
}

// feed passes an event to the core, and does what that decides.
func (f *Follower) feed(e event) {
	if f.ctx.Err() != nil {
		return // calls fail now because of Stop
	}
	do := f.core.on(e, time.Now())
	for _, i := range do.watch {
		go f.watch(i, f.core.services[i].name)
	}
	for _, i := range do.check {
		go f.check(i, f.core.services[i].name)
	}
	for _, n := range do.notes {
		f.log(n)
	}
	for _, c := range do.report {
		if f.ctx.Err() != nil {
			return
		}
		f.report(c.group, c.healthy)
	}
	if !do.wake.IsZero() {
		f.timer.Reset(time.Until(do.wake))
	} else {
		f.timer.Stop()
	}
}

func (f *Follower) log(n note) {
	attrs := []any{"service", n.service, "error", n.err}
	var p *panicError
	if errors.As(n.err, &p) {
		attrs = append(attrs, "stack", string(p.stack))
	}
	f.logger.Warn(string(n.fault), attrs...)
}

// watch calls Watch, and posts each response and the end.
func (f *Follower) watch(i int, service string) {
	ctx, cancel := context.WithCancel(f.ctx)
	s := &stream{ctx: ctx, send: func(resp *healthpb.HealthCheckResponse) {
		f.events.put(event{kind: eventSent, service: i, resp: resp})
	}}
	e := event{kind: eventEnded, service: i, err: errExited}
	defer func() {
		cancel()
		s.end()
		f.events.put(e)
	}()
	e.err = guard(func() error { return f.server.Watch(&healthpb.HealthCheckRequest{Service: service}, s) })
}

// check calls Check, and posts its outcome.
func (f *Follower) check(i int, service string) {
	ctx, cancel := context.WithTimeout(f.ctx, checkTimeout)
	defer cancel()
	e := event{kind: eventChecked, service: i, err: errExited}
	defer func() { f.events.put(e) }()
	e.err = guard(func() error {
		resp, err := f.server.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		e.resp = clone(resp)
		return err
	})
}

// clone copies the status of a response, which the health service may use again.
func clone(resp *healthpb.HealthCheckResponse) *healthpb.HealthCheckResponse {
	if resp == nil {
		return nil
	}
	return &healthpb.HealthCheckResponse{Status: resp.GetStatus()}
}

// errExited is the error of a call that ended its goroutine.
var errExited = errors.New("it called runtime.Goexit")

// panicError is the error of a call that panicked.
type panicError struct {
	value string
	stack []byte
}

func (e *panicError) Error() string { return "panic: " + e.value }

// guard calls the caller's code. It returns a panic as an error, and copies an error, whose methods are the
// caller's code, too.
func guard(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: fmt.Sprint(r), stack: debug.Stack()}
		}
	}()
	s := status.Convert(call())
	return status.Error(s.Code(), s.Message())
}
