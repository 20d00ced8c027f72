package harness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

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
		for _, one := range s.all() {
			one.appear(fmt.Sprintf("%s:%d", s.host, one.port))
			s.mu.Lock()
			one.server, one.entries = nil, nil
			one.candidate = &candidate{election: s.w.election, id: one.id}
			s.mu.Unlock()
		}
		s.connect() // it may take long: what listens meanwhile would have callers wait
		s.open(runtime.WithZone(s.spec.Zone))
		for _, one := range s.all() {
			one.serveLife(ctx)
		}
	})
}

// serveLife has a server of a process that has begun serve.
func (s *server) serveLife(ctx context.Context) {
	listener, err := s.w.network.Listen(s.addr)
	must(err)
	s.listener = listener
	s.grpc = grpc.NewServer(leader.Guard(s.registry, acme.Shop(""))...)
	ctx, s.end = context.WithCancel(ctx)
	s.up, s.leaving = true, new(departure)
	s.mu.Lock()
	s.in, s.live, s.health = true, s.registry, health.NewServer()
	s.mu.Unlock()
	s.w.up(s.instance())
	switch s.spec.Mode {
	case schedule.Serve:
		s.begunUnready(ctx)
		s.serve(ctx)
	case schedule.Announce:
		s.startAnnounced(ctx)
	case schedule.Register:
		s.startRegistered(ctx)
	}
	if s.elects() {
		s.candidate.start(ctx, s.leadership())
	}
}

// begunUnready has the health service say NOT_SERVING at first, if the server is to begin so.
func (s *server) begunUnready(ctx context.Context) {
	if s.spec.Unready == 0 {
		return
	}
	s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	s.want(false)
	life := s.life
	s.w.later.Go(func() {
		time.Sleep(time.Duration(s.spec.Unready) * time.Millisecond)
		s.do(func() {
			if s.up && s.life == life && !s.in {
				s.enter(ctx, false)
			}
		})
	})
}

// kill ends the process without a word to anybody.
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
		var standing []*candidate
		for _, one := range s.all() {
			one.leaving.begin("death")
			one.candidate.ending.begin("death")
			one.end()
			one.grpc.Stop()
			entering, standing = append(entering, one.entering), append(standing, one.candidate)
			one.entering = nil
		}
		s.w.later.Go(func() { // it reaches nobody, and the next life need not wait for it
			for _, task := range entering {
				_ = task.wait() // nobody is left to tell
			}
			zombie.shut(dead())
			for _, candidate := range standing {
				candidate.wait()
			}
		})
	})
}

// stop ends the process in order.
func (s *server) stop(ctx context.Context) { s.stops(ctx, false) }

// fail ends the process because the listeners of its servers fail. Calls under way are lost.
func (s *server) fail(ctx context.Context) { s.stops(ctx, true) }

func (s *server) stops(ctx context.Context, fails bool) {
	s.do(func() {
		if !s.up {
			return
		}
		for _, one := range s.all() {
			one.want(false)
			one.candidate.ending.begin("stop")
		}
		if s.abrupt() {
			s.closeFirst(ctx)
		}
		var ending sync.WaitGroup
		for _, one := range s.all() {
			ending.Go(func() { one.finish(ctx, fails) })
		}
		ending.Wait()
		for _, one := range s.all() {
			one.gone(fails)
		}
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		_ = s.closeRegistry(ctx, closing) // what it could not take out of etcd expires, and settle checks that
		for _, one := range s.all() {
			one.candidate.wait()
		}
		s.linger()
	})
}

// finish has a server leave etcd, if it has not, and serve no more.
func (s *server) finish(ctx context.Context, fails bool) {
	if s.spec.Mode == schedule.Serve {
		s.finishServe(fails)
		return
	}
	if !s.abrupt() {
		s.leave(ctx, s.index%4 != 0)
	}
	s.end()
	s.wait()
	time.Sleep(drainDelay)
	stopped := time.AfterFunc(stopTimeout, s.grpc.Stop)
	s.grpc.GracefulStop()
	stopped.Stop()
}

// finishServe ends Serve, by its context or because its listener fails.
func (s *server) finishServe(fails bool) {
	act := check.Act{What: "Serve after its end", Who: s.id, Began: time.Now(), Soon: serveEnds}
	if fails {
		s.listener.Close()
	} else {
		s.end()
	}
	act.Err = s.entering.wait()
	if act.Err != nil && !strings.Contains(act.Err.Error(), "withdraw") {
		act.Err = nil // it is the listener's
	}
	act.Wrong = s.notOut()
	s.w.acted(context.Background(), serveEnds, act)
	s.entering = nil
	s.end()
	s.grpc.Stop()
}

// gone notes that this life takes no more calls.
func (s *server) gone(killed bool) {
	s.up = false
	s.mu.Lock()
	s.in, s.live = false, nil
	s.mu.Unlock()
	s.candidate.end()
	s.w.gone(s.id, killed)
}
