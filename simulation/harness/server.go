package harness

import (
	"context"
	"fmt"
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
	follows   time.Time               // when it follows the last change of its health, at the latest
	server    *runtime.Server         // of the modes serve and announce; under mu
	leaving   *departure              // of what puts it in etcd
	entries   []*runtime.Registration // of the mode register; under mu
	end       context.CancelFunc
	entering  *task      // puts it in etcd, or serves
	candidate *candidate // under mu
}

func newServer(r *readers, index int, spec schedule.Server) *server {
	s := &server{presence: presence{process: newProcess(r.w, index), spec: spec, readers: r}, port: schedule.Port}
	if spec.Second {
		s.second = &server{presence: presence{process: s.process, spec: spec, readers: r, suffix: "b"}, port: s.port + 1000}
	}
	return s
}

// newTwin makes a server with the instance id of another.
func newTwin(r *readers, of int) *server {
	spec := r.w.Plan.Servers[of]
	spec.Mode, spec.Second = schedule.Register, false
	return newServer(r, r.w.Plan.Processes()+of, spec)
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
	life      int
	in        bool
	out       []string // see presence
	back      bool     // see presence
	flaps     bool
	wants     string
	registry  *runtime.Registry // nil: the server is down
	health    *health.Server
	statuses  []runtime.Status // of its own entries
	candidate *candidate
}

// holds reports whether an entry of the server hangs on a lease, by what its registry says.
func (now sight) holds(id int64) bool {
	return slices.ContainsFunc(now.statuses, func(s runtime.Status) bool { return int64(s.LeaseID) == id })
}

func (s *server) sight() sight {
	s.mu.Lock()
	now := sight{s.id, s.from, s.life, s.whole(), s.out, s.back, s.flaps, fmt.Sprint(s.wants), s.live, s.health, nil, s.candidate}
	server, entries := s.server, slices.Clone(s.entries)
	s.mu.Unlock()
	if server != nil {
		now.statuses = server.Status()
	}
	for _, entry := range entries {
		now.statuses = append(now.statuses, entry.Status())
	}
	return now
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
