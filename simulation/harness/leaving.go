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
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// How servers leave etcd, and stop in order.
const (
	// drainDelay is how long they serve on after they have left etcd.
	drainDelay = time.Second
	// stopTimeout is how long they then wait for calls to end.
	stopTimeout = 2 * time.Second
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

// leave takes the server out of etcd, for good if its registrations are to be closed.
func (s *server) leave(ctx context.Context, forGood bool) {
	s.want(false)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	switch s.spec.Mode {
	case schedule.Serve:
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	case schedule.Announce:
		s.leaving.begin("Withdraw")
		s.out(ctx, contextOnly, "Withdraw", s.server.Withdraw)
	case schedule.Register:
		s.leaving.begin("")
		for _, entry := range s.registered() {
			if forGood {
				s.close(ctx, entry)
			} else {
				s.pauseEntry(ctx, entry)
			}
		}
	}
}

// out makes a call that takes the server out of etcd.
func (s *server) out(ctx context.Context, longest time.Duration, what string, call func(context.Context) error) {
	act := check.Act{What: what, Who: s.id, Began: time.Now(), Soon: soon}
	act.Err = call(ctx)
	act.Wrong = s.notOut()
	s.w.acted(ctx, longest, act)
}

// pauseEntry pauses a registration.
func (s *server) pauseEntry(ctx context.Context, entry *runtime.Registration) {
	act := check.Act{What: "Pause", Who: s.id, Began: time.Now(), Soon: soon}
	act.Err = entry.Pause(ctx)
	now := entry.Status()
	act.Wrong = s.stays(now.Key)
	s.w.acted(ctx, contextOnly, act)
	if (act.Err == nil) != (now.State == runtime.StatePaused) && s.entering.over() {
		s.w.report(check.Returns, "Pause of %s returned %v, and the entry is %v: %v", s.id, act.Err, now.State, now.Err)
	}
}

// registrationCloses is how long a registration may take to close.
const registrationCloses = 5 * time.Second

// close closes a registration, and closes it again.
func (s *server) close(ctx context.Context, entry *runtime.Registration) {
	act := check.Act{What: "Registration.Close", Who: s.id, Began: time.Now(), Soon: soon}
	act.Err = entry.Close(ctx)
	now := entry.Status()
	act.Wrong = s.stays(now.Key)
	s.w.acted(ctx, registrationCloses, act)
	if act.Err != nil {
		return
	}
	if now.State != runtime.StateClosed || now.Err != nil || now.LeaseID != 0 {
		s.w.report(check.Returns, "Registration.Close of %s returned nil, and its status is %+v", s.id, now)
	}
	again := time.Now()
	if err := entry.Close(ctx); err != nil || time.Since(again) > 0 {
		s.w.report(check.Returns, "a second Registration.Close of %s took %v: %v", s.id, time.Since(again), err)
	}
}

// abrupt reports whether the process leaves etcd by the close of its registry alone, whatever is under way.
func (s *server) abrupt() bool { return s.spec.Mode != schedule.Serve && s.index%2 == 1 }

// closeFirst takes the servers of the process out of etcd by closing its registry.
func (s *server) closeFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	for _, one := range s.all() {
		one.leaving.begin("Registry.Close")
	}
	_ = s.closeRegistry(ctx, closing) // it is recorded there
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
	s.want(true)
	s.leaving = new(departure)
	switch {
	case s.spec.Mode == schedule.Serve:
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

// change makes a call of each registration. After one that writes, the server is to be in etcd.
func (s *server) change(ctx context.Context, what string, call func(*runtime.Registration, context.Context) (writes bool, err error)) {
	for _, entry := range s.registered() {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		act := check.Act{What: what, Who: s.id, Began: time.Now(), Soon: soon}
		writes, err := call(entry, ctx)
		if act.Err = err; s.in && writes {
			act.Wrong = s.notIn(entry.Status().Key)
		}
		s.w.acted(ctx, contextOnly, act)
		cancel()
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
