package harness

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
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// server is a process that serves.
type server struct {
	presence
	port int

	up        bool // it takes calls
	listener  net.Listener
	grpc      *grpc.Server
	health    *health.Server
	turned    time.Time               // when its health last turned SERVING again
	server    *runtime.Server         // of the modes serve and announce
	leaving   *atomic.Bool            // entering is to stop trying
	entries   []*runtime.Registration // of the mode register; under mu
	end       context.CancelFunc
	entering  *task      // puts it in etcd, or serves
	candidate *candidate // under mu
}

func newServer(r *readers, index int, spec schedule.Server) *server {
	return &server{presence: presence{process: newProcess(r.w, index), spec: spec, readers: r}, port: schedule.Port}
}

// newTwin makes a server with the instance id of another.
func newTwin(r *readers, of int) *server {
	spec := r.w.Plan.Servers[of]
	spec.Mode = schedule.Register
	return newServer(r, r.w.Plan.Processes()+of, spec)
}

// elects reports whether the server stands for election: a registration by hand knows no methods.
func (s *server) elects() bool { return s.spec.Mode != schedule.Register }

// leadership returns the leadership of this life. Every other server asks its registry for it.
func (s *server) leadership() *leader.Leadership {
	if s.index%2 == 0 {
		return leader.Of(s.server, acme.Shop(""))
	}
	return leader.Of(s.registry, acme.Shop(""))
}

// instance describes this life to the judge.
func (s *server) instance() check.Instance {
	i := check.Instance{ID: s.id, Process: s.name(), Addr: s.addr, Methods: []string{acme.Who}}
	// A registration by hand knows no methods, and the other layouts have no room for them.
	i.Tells = s.spec.Mode != schedule.Register && (len(s.spec.Layouts) == 0 || slices.Contains(s.spec.Layouts, schedule.EndpointJSON))
	if s.spec.Named {
		i.Name = s.instanceID()
	}
	i.Marks = s.marks()
	if s.spec.Newer {
		i.Methods = append(i.Methods, acme.WhoNewer)
	}
	if s.spec.Both {
		i.Methods = append(i.Methods, acme.UserWho)
	}
	return i
}

// sight is what there is to see of a server.
type sight struct {
	id, from  string
	in        bool
	flaps     bool
	wants     string
	registry  *runtime.Registry // nil: the server is down
	candidate *candidate
}

func (s *server) sight() sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sight{s.id, s.from, s.in, s.flaps, fmt.Sprint(s.wants), s.live, s.candidate}
}
