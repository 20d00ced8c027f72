package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// How servers leave etcd, and stop in order.
const (
	// drainDelay is how long they serve on after they have left etcd.
	drainDelay = time.Second
	// stopTimeout is how long they then wait for calls to end.
	stopTimeout = 2 * time.Second
	// spacing is the least time from one change of its health that a server follows to the next.
	spacing = time.Second
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

// leave takes the server out of etcd, for good if its registrations are to be closed. If the calls say that it is out, leave
// checks that.
func (s *server) leave(ctx context.Context, forGood bool) {
	s.want(false, s.spec.Mode != schedule.Announce && !forGood)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	began := time.Now()
	switch s.spec.Mode {
	case schedule.Serve:
		s.mu.Lock()
		s.flaps = began.Before(s.follows.Add(spacing))
		s.follows = later(began, s.follows.Add(spacing))
		s.mu.Unlock()
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	case schedule.Announce:
		s.leaving.begin("Withdraw")
		err := s.server.Withdraw(ctx)
		s.bound(ctx, began, "Withdraw", record.ContextOnly)
		s.ended(ctx, "Withdraw", began, err, soon)
		if err == nil {
			s.saidOut("Withdraw", began)
		}
	case schedule.Register:
		s.leaving.begin("")
		out := s.entering.over()
		for _, entry := range s.registered() {
			if forGood {
				out = s.close(ctx, entry) && out
			} else {
				out = s.pauseEntry(ctx, entry) && out
			}
		}
		if out {
			s.saidOut("Pause or Close", began)
		}
	}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pauseEntry pauses a registration, and reports whether that says that it is out of etcd.
func (s *server) pauseEntry(ctx context.Context, entry *runtime.Registration) (out bool) {
	began := time.Now()
	err := entry.Pause(ctx)
	s.bound(ctx, began, "Pause", record.ContextOnly)
	s.ended(ctx, "Pause", began, err, soon)
	if now := entry.Status(); (err == nil) != (now.State == runtime.StatePaused) && s.entering.over() {
		s.w.Report(check.Answers, "Pause of %s returned %v, and the entry is %v: %v", s.id, err, now.State, now.Err)
	}
	return err == nil
}

// closesWithin is how long a registration may take to close.
const registrationCloses = 5 * time.Second

// close closes a registration, and reports whether that says that it is out of etcd.
func (s *server) close(ctx context.Context, entry *runtime.Registration) (out bool) {
	began := time.Now()
	err := entry.Close(ctx)
	s.bound(ctx, began, "Registration.Close", registrationCloses)
	s.ended(ctx, "Registration.Close", began, err, soon)
	if err != nil {
		return false
	}
	if now := entry.Status(); now.State != runtime.StateClosed || now.Err != nil || now.LeaseID != 0 {
		s.w.Report(check.Status, "Registration.Close of %s returned nil, and its status is %+v", s.id, now)
	}
	again := time.Now()
	if err := entry.Close(ctx); err != nil || time.Since(again) > 0 {
		s.w.Report(check.Answers, "a second Registration.Close of %s took %v: %v", s.id, time.Since(again), err)
	}
	return true
}

// abrupt reports whether the process leaves etcd by the close of its registry alone, whatever is under way.
func (s *server) abrupt() bool { return s.spec.Mode != schedule.Serve && s.index%2 == 1 }

// closeFirst takes the servers of the process out of etcd by closing its registry. If that says that they are, closeFirst checks
// that.
func (s *server) closeFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	began := time.Now()
	for _, one := range s.all() {
		one.leaving.begin("Registry.Close")
	}
	if s.closeRegistry(ctx, closing) != nil {
		return
	}
	for _, one := range s.all() {
		one.saidOut("Registry.Close", began)
	}
}

// registered returns the registrations that Register has returned.
func (s *server) registered() []*runtime.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

// pause takes the server out of etcd for a time.
func (s *server) pause(ctx context.Context, step schedule.Step) {
	s.do(func() {
		if !s.up || s.spec.Mode == schedule.Register && !s.entering.over() {
			return // what is not registered yet cannot be paused
		}
		s.leave(ctx, step.Text == schedule.ForGood)
		time.Sleep(step.For)
		s.enter(ctx, step.Text == schedule.ForGood)
	})
}

// enter puts the server in etcd again after leave.
func (s *server) enter(ctx context.Context, forGood bool) {
	if s.spec.Mode != schedule.Serve {
		s.wait()
	}
	s.want(true, false)
	s.leaving = new(departure)
	switch {
	case s.spec.Mode == schedule.Serve:
		s.follows = later(time.Now(), s.follows.Add(spacing))
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case s.spec.Mode == schedule.Announce:
		s.announce(s.further(ctx))
	case forGood:
		s.mu.Lock()
		s.entries = nil
		for _, key := range s.keys() {
			s.wants[key] = s.says(key) // whatever was updated since
		}
		s.mu.Unlock()
		s.register(s.further(ctx))
	default:
		s.change(ctx, "Resume", func(r *runtime.Registration, ctx context.Context) (bool, error) { return true, r.Resume(ctx) })
	}
}

// further returns a context that ends with the life.
func (s *server) further(ctx context.Context) context.Context {
	life, cancel := context.WithCancel(ctx)
	end := s.end
	s.end = func() { cancel(); end() }
	return life
}

// change makes a call of each registration. If the call writes, and returns nil, change checks that the server is in etcd.
func (s *server) change(ctx context.Context, what string, call func(*runtime.Registration, context.Context) (writes bool, err error)) {
	for _, entry := range s.registered() {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		began := time.Now()
		writes, err := call(entry, ctx)
		s.bound(ctx, began, what, record.ContextOnly)
		s.ended(ctx, what, began, err, soon)
		cancel()
		if err == nil && s.in && writes {
			s.saidIn(what, began, entry.Status().Key)
		}
	}
}

// update changes the weight of the registrations, and their metadata at the same time. It writes nothing if they have that
// already, or if their layouts have no room for it.
func (s *server) update(ctx context.Context, weight uint32) {
	tier := fmt.Sprint("tier ", weight)
	s.do(func() {
		if !s.up {
			return
		}
		s.change(ctx, "Update", func(r *runtime.Registration, ctx context.Context) (writes bool, err error) {
			changed := s.expect(r.Status().Key, func(said *acme.Said) { said.Weight, said.Tier = weight, tier })
			other := newTask(func() error { return r.Update(ctx, runtime.WithMetadata("tier", tier)) })
			err = r.Update(ctx, runtime.WithWeight(weight))
			return changed && s.marks(), errors.Join(err, other.wait())
		})
	})
}
