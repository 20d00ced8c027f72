package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Times and bounds for servers that withdraw from etcd and stop gracefully.
const (
	// drainDelay is how long servers keep serving after their withdrawal.
	drainDelay = time.Second

	// stopTimeout is how long servers wait for calls to end after drainDelay.
	stopTimeout = 2 * time.Second

	// withdrawTimeout bounds a call that withdraws a server or puts it back.
	// The delays of messages come on top.
	withdrawTimeout = 3 * time.Second

	// registrationCloses bounds the close of a registration.
	registrationCloses = 5 * time.Second

	// serveEnds bounds the return of Serve after its context has ended: the
	// withdrawal has 5 s.
	serveEnds = 5*time.Second + drainDelay + stopTimeout
)

// withdrawContext returns a context for a call that withdraws a server or puts
// it back.
func (w *world) withdrawContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), withdrawTimeout+trips*2*w.line())
}

// withdraw removes the server from etcd. It closes registrations if forGood is
// set, and pauses them otherwise.
func (s *server) withdraw(forGood bool) {
	s.want(false)

	ctx, cancel := s.w.withdrawContext()
	defer cancel()

	switch s.spec.Mode {
	case schedule.Serve:
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)

	case schedule.Announce:
		s.stopEntering.Store(true)
		act := check.Act{What: "Withdraw", Who: s.id, Soon: soon}
		_ = s.w.act(ctx, act, s.server.Withdraw, s.notOut) // act records the error

	case schedule.Register:
		s.stopEntering.Store(true)

		for _, entry := range s.registered() {
			if forGood {
				s.closeEntry(ctx, entry)
			} else {
				s.pauseEntry(ctx, entry)
			}
		}
	}
}

// notOut describes the entries that etcd still has although the server has
// withdrawn.
func (s *server) notOut() string {
	return s.remaining(s.keys()...)
}

// pauseEntry pauses a registration.
func (s *server) pauseEntry(ctx context.Context, entry *runtime.Registration) {
	act := check.Act{What: "Pause", Who: s.id, Soon: soon}
	remaining := func() string { return s.remaining(entry.Status().Key) }
	err := s.w.act(ctx, act, entry.Pause, remaining)

	now := entry.Status()
	if (err == nil) != (now.State == runtime.StatePaused) && s.entering.over() {
		s.w.report(check.Returns,
			"Pause of %s returned %v, but the entry is %v with the error %v", s.id, err,
			now.State, now.Err)
	}
}

// closeEntry closes a registration, and closes it again.
func (s *server) closeEntry(ctx context.Context, entry *runtime.Registration) {
	act := check.Act{
		What:    "Registration.Close",
		Who:     s.id,
		Soon:    soon,
		Longest: registrationCloses,
	}
	remaining := func() string { return s.remaining(entry.Status().Key) }

	if s.w.act(ctx, act, entry.Close, remaining) != nil {
		return
	}

	now := entry.Status()
	if now.State != runtime.StateClosed || now.Err != nil || now.LeaseID != 0 {
		s.w.report(check.Returns,
			"Registration.Close of %s returned nil, but its status is %+v", s.id, now)
	}

	again := time.Now()
	if err := entry.Close(ctx); err != nil || time.Since(again) > 0 {
		s.w.report(check.Returns,
			"a second Registration.Close of %s took %v and returned %v, want the first result at once",
			s.id, time.Since(again), err)
	}
}

// abrupt reports whether the process withdraws only by closing its registry.
func (s *server) abrupt() bool {
	return s.spec.Mode != schedule.Serve && s.index%2 == 1
}

// registered returns the registrations that Register has returned.
func (s *server) registered() []*runtime.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Clone(s.entries)
}

// pause withdraws the server for a time.
func (s *server) pause(lasts time.Duration, forGood bool) {
	s.do(func() {
		if !s.up || s.spec.Mode == schedule.Register && !s.entering.over() {
			return // only a registered entry can be paused
		}

		s.withdraw(forGood)
		time.Sleep(lasts)
		s.enter(forGood)
	})
}

// enter puts the server in etcd again after withdraw.
func (s *server) enter(forGood bool) {
	if s.spec.Mode != schedule.Serve {
		_ = s.entering.wait() // the trace has the task's error
	}

	s.want(true)

	s.stopEntering = new(atomic.Bool)

	switch {
	case s.spec.Mode == schedule.Serve:
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case s.spec.Mode == schedule.Announce:
		s.announce()

	case forGood:
		s.forgetEntries()
		s.register()

	default:
		s.change("Resume", resume)
	}
}

// forgetEntries makes the server expect new registrations, which do not have
// the earlier updates.
func (s *server) forgetEntries() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.entries = nil

	for _, key := range s.keys() {
		s.wants[key] = s.says(key)
	}
}

// changing calls a method of a registration, and reports whether the call must
// write.
type changing func(context.Context, *runtime.Registration) (writes bool, err error)

func resume(ctx context.Context, entry *runtime.Registration) (bool, error) {
	return true, entry.Resume(ctx)
}

// change calls a method of each registration. After a call that writes, the
// entry must be in etcd.
func (s *server) change(what string, call changing) {
	for _, entry := range s.registered() {
		ctx, cancel := s.w.withdrawContext()
		act := check.Act{What: what, Who: s.id, Began: time.Now(), Soon: soon}
		writes, err := call(ctx, entry)
		act.Err = err

		if s.in && writes {
			act.Wrong = s.lacks(entry.Status().Key)
		}

		s.w.acted(ctx, act)
		cancel()
	}
}

// update changes the weight and metadata of the registrations. If that changes
// no value in etcd, the runtime must write nothing.
func (s *server) update(weight uint32) {
	tier := fmt.Sprint("tier ", weight)
	set := func(said *fixtures.Said) {
		said.Weight = weight
		said.Tier = tier
	}
	holds := !slices.ContainsFunc(s.spec.Layouts, func(name string) bool {
		return !schedule.LayoutNamed(name).Metadata()
	})

	update := func(ctx context.Context, entry *runtime.Registration) (bool, error) {
		changed := s.expect(entry.Status().Key, set)

		// two updates at once
		other := newTask(func() error {
			return entry.Update(ctx, runtime.WithMetadata("tier", tier))
		})
		err := entry.Update(ctx, runtime.WithWeight(weight))

		return changed && holds, errors.Join(err, other.wait())
	}

	s.do(func() {
		if s.up {
			s.change("Update", update)
		}
	})
}
