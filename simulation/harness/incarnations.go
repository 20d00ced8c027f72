package harness

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func (s *server) start() {
	s.do(func() {
		if s.up {
			return // another step has started the server
		}

		s.begin()

		for _, one := range s.all() {
			one.appear()
		}

		// Callers of a listening server would wait until the client is made.
		s.connect()
		s.open(runtime.WithZone(s.spec.Zone))

		for _, one := range s.all() {
			one.serveIncarnation()
		}
	})
}

// serveIncarnation makes one server of a process serve.
func (s *server) serveIncarnation() {
	listener, err := s.w.network.Listen(s.addr)
	must(err)
	s.listener = listener
	s.grpc = grpc.NewServer(leader.Guard(s.registry, fixtures.Shop(""))...)
	s.up = true
	s.stopEntering = new(atomic.Bool)
	s.ctx, s.end = context.WithCancel(context.Background())

	s.mu.Lock()
	s.in = true
	s.live = s.registry
	s.health = health.NewServer()
	s.mu.Unlock()

	s.w.up(&check.Incarnation{ID: s.id, Name: s.named, Process: s.name(), Addr: s.addr})

	switch s.spec.Mode {
	case schedule.Serve:
		s.beginUnready()
		s.publish()

		ctx := s.ctx
		server := s.server
		s.entering = newTask(func() error { return server.Serve(ctx, listener) })

	case schedule.Announce:
		s.publish()
		s.serveGRPC()
		s.announce()

	case schedule.Register:
		s.addServices(s.grpc)
		s.serveGRPC()
		s.register()
	}

	switch {
	case !s.elects():
	case s.index%2 == 0 || s.spec.Second:
		s.candidate.start(s.ctx, leader.Of(s.server, fixtures.Shop("")))
	default: // half of the processes with one server ask the registry
		s.candidate.start(s.ctx, leader.Of(s.registry, fixtures.Shop("")))
	}
}

// unready is the initial time in which the health service of an incarnation
// reports NOT_SERVING.
func (s *server) unready() time.Duration {
	return time.Duration(s.spec.Unready) * time.Millisecond
}

// beginUnready makes the health service report NOT_SERVING for the unready
// time.
func (s *server) beginUnready() {
	if s.spec.Unready == 0 {
		return
	}

	s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	s.want(false)

	incarnation := s.incarnation
	s.w.later.Go(func() {
		time.Sleep(s.unready())
		s.do(func() {
			if s.up && s.incarnation == incarnation && !s.in {
				s.enter(false)
			}
		})
	})
}

// kill ends the process without notice.
func (s *server) kill() {
	s.do(func() {
		if !s.up {
			return
		}

		for _, one := range s.all() {
			one.gone(true)
			one.listener.Close()
		}

		s.crash()

		zombie := *s.process
		var entering []*task
		var candidates []*candidate
		for _, one := range s.all() {
			one.stopEntering.Store(true)
			one.candidate.ending.Store(true)
			one.end()
			one.grpc.Stop()
			entering = append(entering, one.entering)
			candidates = append(candidates, one.candidate)
		}

		s.w.later.Go(func() { // the next incarnation does not wait for this
			for _, task := range entering {
				_ = task.wait() // a killed process returns no errors
			}

			// a killed process withdraws nothing
			dead, cancel := context.WithCancel(context.Background())
			cancel()
			zombie.closeRegistry(dead, closing)
			zombie.disconnect()

			for _, candidate := range candidates {
				candidate.wait()
			}
		})
	})
}

// stop ends the process gracefully. With fails set, its listeners fail, and
// calls under way are lost.
func (s *server) stop(fails bool) {
	s.do(func() {
		if !s.up {
			return
		}

		for _, one := range s.all() {
			one.want(false)
			one.stopEntering.Store(s.abrupt())
			one.candidate.ending.Store(true)
		}

		if s.abrupt() {
			ctx, cancel := s.w.withdrawContext()
			s.closeRegistry(ctx, closing) // withdraws the servers of the process
			cancel()
		}

		var ending sync.WaitGroup
		for _, one := range s.all() {
			ending.Go(func() { one.finish(fails) })
		}

		ending.Wait()

		for _, one := range s.all() {
			one.gone(fails)
		}

		ctx, cancel := s.w.withdrawContext()
		defer cancel()

		s.closeRegistry(ctx, closing) // settle checks that remaining entries expire

		for _, one := range s.all() {
			one.candidate.wait()
		}

		s.linger()
	})
}

// finish withdraws the server, unless the registry is closed already, and stops
// it.
func (s *server) finish(fails bool) {
	if s.spec.Mode == schedule.Serve {
		s.finishServe(fails)
		return
	}

	if !s.abrupt() {
		s.withdraw(s.index%4 != 0)
	}

	s.end()
	_ = s.entering.wait() // the trace has the task's error

	time.Sleep(drainDelay)
	stopped := time.AfterFunc(stopTimeout, s.grpc.Stop)
	s.grpc.GracefulStop()
	stopped.Stop()
}

// finishServe ends the call of Serve by its context, or by a failure of its
// listener.
func (s *server) finishServe(fails bool) {
	act := check.Act{
		What:    "Serve after its end",
		Who:     s.id,
		Soon:    serveEnds,
		Longest: serveEnds,
	}

	ends := func(context.Context) error {
		if fails {
			s.listener.Close()
		} else {
			s.end()
		}

		err := s.entering.wait()
		if err != nil && strings.Contains(err.Error(), "withdraw") {
			return err
		}

		return nil // the error of the listener is expected
	}

	_ = s.w.act(context.Background(), act, ends, s.notOut) // act has recorded the error
	s.end()
	s.grpc.Stop()
}

// gone records that this incarnation accepts no more calls.
func (s *server) gone(killed bool) {
	s.up = false

	s.mu.Lock()
	s.in = false
	s.live = nil
	s.mu.Unlock()

	s.candidate.end()
	s.w.gone(s.id, killed)
}
