package harness

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// How servers leave etcd, and stop in order.
const (
	// drainDelay is how long they serve on after they have left etcd.
	drainDelay = time.Second
	// stopTimeout is how long they then wait for calls to end.
	stopTimeout = 2 * time.Second
	// damping is how long after its health has turned SERVING a server may take to follow the next change: it waits for half
	// a second until it believes it, and for two more until the next.
	damping = 2500 * time.Millisecond
	// leaveTimeout is how long a call that takes them out of etcd, or puts them back, may take.
	leaveTimeout = 3 * time.Second
	// serveEnds is how long Serve may take after its context's end, with all of that.
	serveEnds = 7 * time.Second
)

// wait waits until what puts the server in etcd is over. Its error is in the trace.
func (s *server) wait() {
	_ = s.entering.wait()
	s.entering = nil
}

// leave takes the server out of etcd. If the call says that it has, leave checks that.
func (s *server) leave(ctx context.Context) {
	s.want(false)
	s.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	began := time.Now()
	var err error
	switch s.spec.Mode {
	case schedule.Serve:
		s.mu.Lock()
		s.flaps = began.Sub(s.turned) < damping
		s.mu.Unlock()
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		return
	case schedule.Announce:
		err = s.server.Withdraw(ctx)
		s.bound(ctx, began, "Withdraw", record.ContextOnly)
	case schedule.Register:
		for _, entry := range s.registered() {
			err = errors.Join(err, entry.Pause(ctx))
		}
		s.bound(ctx, began, "Pause", record.ContextOnly)
	}
	if err == nil && (s.spec.Mode == schedule.Announce || s.entering.over()) {
		s.saidOut("Withdraw or Pause", began)
	}
}

// abrupt reports whether the server leaves etcd by the close of its registry alone, whatever is under way.
func (s *server) abrupt() bool { return s.spec.Mode == schedule.Register && s.index%2 == 1 }

// closeFirst takes the server out of etcd by closing its registry. If that says that it has, closeFirst checks that.
func (s *server) closeFirst(ctx context.Context) {
	s.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if began := time.Now(); s.closeRegistry(ctx) == nil {
		s.saidOut("Registry.Close", began)
	}
}

// registered returns the registrations that Register has returned.
func (s *server) registered() []*runtime.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

// pause takes the server out of etcd for a time.
func (s *server) pause(ctx context.Context, d time.Duration) {
	s.do(func() {
		if !s.up || s.spec.Mode == schedule.Register && !s.entering.over() {
			return // what is not registered yet cannot be paused
		}
		s.leave(ctx)
		time.Sleep(d)
		s.enter(ctx)
	})
}

// enter puts the server in etcd again after leave.
func (s *server) enter(ctx context.Context) {
	if s.spec.Mode != schedule.Serve {
		s.wait()
	}
	s.want(true)
	s.leaving = new(atomic.Bool)
	switch s.spec.Mode {
	case schedule.Serve:
		s.turned = time.Now()
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case schedule.Announce:
		life, cancel := context.WithCancel(ctx)
		end := s.end
		s.end = func() { cancel(); end() }
		s.announce(life)
	case schedule.Register:
		s.change(ctx, "Resume", func(r *runtime.Registration, ctx context.Context) (bool, error) { return true, r.Resume(ctx) })
	}
}

// change makes a call of each registration. If the call writes, and returns nil, change checks that the server is in etcd.
func (s *server) change(ctx context.Context, what string, call func(*runtime.Registration, context.Context) (writes bool, err error)) {
	for _, entry := range s.registered() {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		began := time.Now()
		writes, err := call(entry, ctx)
		s.bound(ctx, began, what, record.ContextOnly)
		cancel()
		if err == nil && s.in && writes {
			s.saidIn(what, began, entry.Status().Key)
		}
	}
}

// update changes the weight of the registrations. It writes nothing if they have it already, or if their layouts have no room
// for it.
func (s *server) update(ctx context.Context, weight uint32) {
	s.do(func() {
		if !s.up {
			return
		}
		s.change(ctx, "Update", func(r *runtime.Registration, ctx context.Context) (writes bool, err error) {
			writes = s.weigh(r.Status().Key, weight) && s.marks()
			return writes, r.Update(ctx, runtime.WithWeight(weight))
		})
	})
}
