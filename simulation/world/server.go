package world

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// server is a process that serves.
type server struct {
	process
	spec schedule.Server
	port int

	id       string            // of the life; under mu
	addr     string            // under mu
	up       bool              // it takes calls
	in       bool              // it is meant to be in etcd; under mu
	wants    map[string]said   // by service: what its entries are to say; under mu
	live     *runtime.Registry // nil: it is down; under mu
	listener net.Listener
	grpc     *grpc.Server
	health   *health.Server
	turned   time.Time               // when its health last turned SERVING again
	flaps    bool                    // its health turned NOT_SERVING soon after that; under mu
	server   *runtime.Server         // of the modes serve and announce
	leaving  *atomic.Bool            // entering is to stop trying
	entries  []*runtime.Registration // of the mode register; under mu
	end      context.CancelFunc
	entering *errand  // puts it in etcd, or serves
	stands   *stander // under mu
}

func newServer(w *World, index int, spec schedule.Server) *server {
	return &server{process: newProcess(w, index), spec: spec, port: schedule.Port}
}

// newTwin makes a server with the instance id of another.
func newTwin(w *World, of int) *server {
	spec := w.plan.Servers[of]
	spec.Mode = schedule.Register
	return newServer(w, w.plan.Processes()+of, spec)
}

// instanceID returns the instance id that the server has been given.
func (s *server) instanceID() string { return s.w.plan.Instance(s.index % s.w.plan.Processes()) }

// known returns the life's id and address, for those who do not hold the turn.
func (s *server) known() (id, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.addr
}

// keys returns the services that the server is to be found under.
func (s *server) keys() []string {
	if s.spec.Both {
		return []string{shopKey, userKey}
	}
	return []string{shopKey}
}

func (s *server) start(ctx context.Context) {
	s.do(func() {
		if s.up {
			return // another step has started it: stopping takes time
		}
		s.begin()
		s.mu.Lock()
		s.addr = fmt.Sprintf("%s:%d", s.host, s.port)
		s.id = fmt.Sprintf("%s, life %d", s.name(), s.life)
		s.entries, s.wants = nil, make(map[string]said)
		s.stands = newStander(&s.process, s.id)
		for _, key := range s.keys() {
			s.wants[key] = s.wanted(key)
		}
		s.mu.Unlock()
		s.open(runtime.WithZone(s.spec.Zone)) // it may take long: what listens meanwhile would have callers wait
		listener, err := s.w.network.Listen(s.addr)
		if err != nil {
			panic(err) // a fault of the world's own
		}
		s.listener = listener
		s.grpc, s.health = grpc.NewServer(leader.Guard(s.registry, describeShop(""))...), health.NewServer()
		ctx, s.end = context.WithCancel(ctx)
		s.up, s.leaving = true, new(atomic.Bool)
		s.mu.Lock()
		s.in, s.live = true, s.registry
		s.mu.Unlock()
		s.w.observe(func(j *check.Judge) { j.Up(time.Now(), s.instance()) })
		switch s.spec.Mode {
		case schedule.Serve:
			s.serve(ctx)
		case schedule.Announce:
			s.startAnnounced(ctx)
		case schedule.Register:
			s.startRegistered(ctx)
		}
		if s.elects() {
			s.stands.start(ctx, s.leadership())
		}
	})
}

// elects reports whether the server stands for election: a registration by hand knows no methods.
func (s *server) elects() bool { return s.spec.Mode != schedule.Register }

// leadership returns the leadership of this life. Every other server asks its registry for it.
func (s *server) leadership() *leader.Leadership {
	if s.index%2 == 0 {
		return leader.Of(s.server, describeShop(""))
	}
	return leader.Of(s.registry, describeShop(""))
}

// instance describes this life to the judge.
func (s *server) instance() check.Instance {
	i := check.Instance{ID: s.id, Process: s.name(), Addr: s.addr, Methods: []string{shopWho}}
	// A registration by hand knows no methods, and the other layouts have no room for them.
	i.Tells = s.spec.Mode != schedule.Register && (len(s.spec.Layouts) == 0 || slices.Contains(s.spec.Layouts, schedule.EndpointJSON))
	if s.spec.Named {
		i.Name = s.instanceID()
	}
	i.Marks = s.marks()
	if s.spec.Newer {
		i.Methods = append(i.Methods, shopWhoNewer)
	}
	if s.spec.Both {
		i.Methods = append(i.Methods, userWho)
	}
	return i
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
		ghost, entering, stands := s.process, s.entering, s.stands
		s.entering = nil
		s.w.ghosts.Go(func() { // it reaches nobody, and the next life need not wait for it
			_ = entering.wait() // nobody is left to tell
			ghost.shut(dead())
			stands.wait()
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
		s.stands.wait()
		s.vanish()
	})
}

// gone notes that this life takes no more calls.
func (s *server) gone(killed bool) {
	s.up = false
	s.mu.Lock()
	s.in, s.live = false, nil
	s.mu.Unlock()
	s.stands.end()
	s.w.observe(func(j *check.Judge) { j.Down(time.Now(), s.id, killed) })
}
