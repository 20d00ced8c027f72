package harness

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// server is a process that serves, or the second server in one.
type server struct {
	presence
	port   int
	second *server // of the process; nil: there is none

	up        bool // it takes calls
	listener  net.Listener
	grpc      *grpc.Server
	health    *health.Server          // under mu
	server    *runtime.Server         // of the modes serve and announce; under mu
	leaving   *departure              // of what puts it in etcd
	entries   []*runtime.Registration // of the mode register; under mu
	end       context.CancelFunc
	entering  *task      // puts it in etcd, or serves
	candidate *candidate // under mu
}

func newServer(w *world, index int, spec schedule.Server) *server {
	s := &server{presence: presence{process: newProcess(w, index), spec: spec}, port: schedule.Port}
	if spec.Second {
		s.second = &server{presence: presence{process: s.process, spec: spec, suffix: "b"}, port: s.port + 1000}
	}
	return s
}

// newTwin makes a server with the instance id of another.
func newTwin(w *world, of int) *server {
	spec := w.plan.Servers[of]
	spec.Mode, spec.Second = schedule.Register, false
	return newServer(w, w.plan.Processes()+of, spec)
}

// all returns the servers of the process.
func (s *server) all() []*server {
	if s.second == nil {
		return []*server{s}
	}
	return []*server{s, s.second}
}

// elects reports whether the server stands for election: a registration by hand knows no methods.
func (s *server) elects() bool { return s.spec.Mode != schedule.Register }

// leadership returns the leadership of this life. Every other process asks its registry for it, if it has one server.
func (s *server) leadership() *leader.Leadership {
	if s.index%2 == 0 || s.spec.Second {
		return leader.Of(s.server, acme.Shop(""))
	}
	return leader.Of(s.registry, acme.Shop(""))
}

// instance describes this life.
func (s *server) instance() *check.Life {
	l := &check.Life{ID: s.id, Process: s.name(), Addr: s.addr, Methods: []string{acme.Who}}
	if s.spec.Named {
		l.Name = s.instanceID()
	}
	if s.spec.Newer {
		l.Methods = append(l.Methods, acme.WhoNewer)
	}
	if s.spec.Both {
		l.Methods = append(l.Methods, acme.UserWho)
	}
	return l
}

// look returns what there is to see of the server.
func (s *server) look() check.Server {
	seen := s.seen()
	s.mu.Lock()
	server, entries, candidate, registry, from := s.server, slices.Clone(s.entries), s.candidate, s.live, s.from
	s.mu.Unlock()
	if server != nil {
		seen.Statuses = server.Status()
	}
	for _, entry := range entries {
		seen.Statuses = append(seen.Statuses, entry.Status())
	}
	if registry != nil {
		seen.Registrations = len(registry.Status().Registrations)
	}
	seen.Expected = len(s.keys()) * s.spec.Servers()
	seen.Elects, seen.Leads = s.elects(), candidate.leadsWith() != 0
	seen.Leases = s.w.leases(from)
	return seen
}

// departure says since when a server leaves etcd, and by which call, if that ends those that are under way to put it there.
type departure struct {
	mu sync.Mutex
	at time.Time
	by string
}

// begin notes that the server leaves.
func (d *departure) begin(by string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.by = time.Now(), by
}

// begun returns when the server began to leave, zero if it has not, and by which call.
func (d *departure) begun() (time.Time, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, d.by
}
