package harness

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func (s *server) start(ctx context.Context) {
	s.do(func() {
		if s.up {
			return // another step has started it: stopping takes time
		}
		s.begin()
		s.appear(fmt.Sprintf("%s:%d", s.host, s.port))
		from := s.from
		s.mu.Lock()
		s.entries = nil
		s.candidate = &candidate{
			election: s.w.election, id: s.id, shown: func(since time.Time) bool { return s.untouched(from, since) },
		}
		s.mu.Unlock()
		s.connect()
		s.open(runtime.WithZone(s.spec.Zone)) // it may take long: what listens meanwhile would have callers wait
		listener, err := s.w.network.Listen(s.addr)
		if err != nil {
			panic(err) // a fault of the world's own
		}
		s.listener = listener
		s.grpc, s.health = grpc.NewServer(leader.Guard(s.registry, acme.Shop(""))...), health.NewServer()
		ctx, s.end = context.WithCancel(ctx)
		s.up, s.leaving = true, new(atomic.Bool)
		s.mu.Lock()
		s.in, s.live = true, s.registry
		s.mu.Unlock()
		s.w.Observe(func(j *check.Judge) { j.Up(time.Now(), s.instance()) })
		switch s.spec.Mode {
		case schedule.Serve:
			s.serve(ctx)
		case schedule.Announce:
			s.startAnnounced(ctx)
		case schedule.Register:
			s.startRegistered(ctx)
		}
		if s.elects() {
			s.candidate.start(ctx, s.leadership())
		}
	})
}

// kill ends the process without a word to anybody.
func (s *server) kill() {
	s.do(func() {
		if !s.up {
			return
		}
		s.gone(true)
		s.listener.Close()
		s.crash()
		s.leaving.Store(true)
		s.end()
		s.grpc.Stop()
		zombie, entering, candidate := *s.process, s.entering, s.candidate
		s.entering = nil
		s.w.later.Go(func() { // it reaches nobody, and the next life need not wait for it
			_ = entering.wait() // nobody is left to tell
			zombie.shut(dead())
			candidate.wait()
		})
	})
}

// stop ends the process in order.
func (s *server) stop(ctx context.Context) {
	s.do(func() {
		if !s.up {
			return
		}
		s.want(false)
		began := time.Now()
		switch s.spec.Mode {
		case schedule.Serve:
			s.end()
			err := s.entering.wait()
			s.entering = nil
			s.bound(context.Background(), began, "Serve after its context's end", serveEnds)
			if err == nil {
				s.saidOut("Serve", began)
			}
		default:
			if s.abrupt() {
				s.closeFirst(ctx)
			} else {
				s.leave(ctx)
			}
			s.end()
			s.wait()
			time.Sleep(drainDelay)
			stopped := time.AfterFunc(stopTimeout, s.grpc.Stop)
			s.grpc.GracefulStop()
			stopped.Stop()
		}
		s.gone(false)
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		s.shut(ctx)
		s.candidate.wait()
		s.vanish()
	})
}

// gone notes that this life takes no more calls.
func (s *server) gone(killed bool) {
	s.up = false
	s.mu.Lock()
	s.in, s.live = false, nil
	s.mu.Unlock()
	s.candidate.end()
	s.w.Observe(func(j *check.Judge) { j.Down(time.Now(), s.id, killed) })
}
