package harness

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// server is a process with a server, or a second server in such a process.
type server struct {
	*process
	spec   schedule.Server
	named  string // the given instance id, or ""
	suffix string // the end of the ids of a second server, or ""
	port   int
	second *server // the second server of the process, or nil

	up       bool // the server accepts calls
	listener net.Listener
	grpc     *grpc.Server
	ctx      context.Context // ends with the incarnation
	end      context.CancelFunc

	entering     *task        // puts the server in etcd, or runs Serve
	stopEntering *atomic.Bool // the task entering must stop

	// Under mu:
	id   string // the id of the incarnation
	addr string
	in   bool // the server should be in etcd

	// by service: the expected content of the server's entries
	wants map[string]fixtures.Said

	health    *health.Server
	server    *runtime.Server         // set in the modes serve and announce
	entries   []*runtime.Registration // set in the mode register
	candidate *candidate
}

func newServer(w *world, index int, spec schedule.Server) *server {
	s := &server{
		process: newProcess(w, index, spec.Parts),
		spec:    spec,
		port:    schedule.Port,
	}
	if spec.Named {
		s.named = w.schedule.Instance(index % w.schedule.Processes())
	}

	if spec.Second {
		s.second = &server{
			process: s.process,
			spec:    spec,
			suffix:  "b",
			port:    s.port + 1000,
		}

		if spec.Named {
			s.second.named = s.named + s.second.suffix
		}
	}

	return s
}

// all returns the servers of the process.
func (s *server) all() []*server {
	if s.second == nil {
		return []*server{s}
	}

	return []*server{s, s.second}
}

// elects reports whether the server is a candidate. Registry.Register makes no
// candidates.
func (s *server) elects() bool {
	return s.spec.Mode != schedule.Register
}

// keys returns the services under which callers should find the server.
func (s *server) keys() []string {
	if s.spec.Both {
		return []string{fixtures.ShopKey, fixtures.UserKey}
	}

	return []string{fixtures.ShopKey}
}

// methods returns the names of the methods of the shop that the server serves.
func (s *server) methods() []string {
	if s.spec.Newer {
		return []string{"Lead", "Who", "WhoNewer"}
	}

	return []string{"Lead", "Who"}
}

// appear records the start of an incarnation.
func (s *server) appear() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.addr = fmt.Sprintf("%s:%d", s.host, s.port)
	s.id = fmt.Sprintf("%s%s, incarnation %d", s.name(), s.suffix, s.incarnation)
	s.server = nil
	s.entries = nil
	s.candidate = &candidate{w: s.w, id: s.id, name: cmp.Or(s.named, s.addr)}

	s.wants = map[string]fixtures.Said{}
	for _, key := range s.keys() {
		s.wants[key] = s.says(key)
	}
}

// says returns the initial content of the server's entries for a service.
func (s *server) says(key string) fixtures.Said {
	want := fixtures.Said{
		Addr:    s.addr,
		Version: s.spec.Version,
		Zone:    s.spec.Zone,
		Weight:  max(1, s.spec.Weight),
	}

	switch {
	case !s.elects(): // Registry.Register does not know the server's methods
	case key == fixtures.UserKey:
		want.Methods = strings.TrimPrefix(fixtures.UserWho, "/")
	default:
		want.Methods = fixtures.ShopName + "/" + strings.Join(s.methods(), ",")
	}

	return want
}

// want records whether the server should be in etcd.
func (s *server) want(in bool) {
	s.mu.Lock()
	s.in = in
	s.mu.Unlock()

	s.w.record(func(h *check.History) {
		l := h.Incarnation(s.id)
		l.Moves = append(l.Moves, check.Move{At: time.Now(), In: in})
	})
}

// expect changes the expected content of an entry, and reports whether it
// differs from before.
func (s *server) expect(key string, change func(*fixtures.Said)) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	want := s.wants[key]
	change(&want)
	changed = want != s.wants[key]
	s.wants[key] = want

	return changed
}

// layouts returns the layouts of the server's entries.
func (s *server) layouts() []string {
	if len(s.spec.Layouts) == 0 {
		return []string{schedule.EndpointJSON}
	}

	return s.spec.Layouts
}

// seen returns the expected state of the server in etcd.
func (s *server) seen() check.Server {
	s.mu.Lock()
	defer s.mu.Unlock()

	return check.Server{
		ID:      s.id,
		Addr:    s.addr,
		Name:    s.named,
		In:      s.in,
		Layouts: s.layouts(),
		Wants:   maps.Clone(s.wants),
	}
}

// look returns the present state of the server.
func (s *server) look() check.Server {
	seen := s.seen()

	s.mu.Lock()
	server := s.server
	entries := slices.Clone(s.entries)
	candidate := s.candidate
	registry := s.live
	from := s.from
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
	seen.Elects = s.elects()
	seen.Leads = candidate.leadsWith() != 0
	seen.Leases = s.w.leases(from)

	return seen
}

// lacks describes the missing entries of the server for some services.
func (s *server) lacks(keys ...string) string {
	return s.compare(keys, check.Server.Lacks)
}

// remaining describes the entries that etcd has of the server for some
// services.
func (s *server) remaining(keys ...string) string {
	return s.compare(keys, check.Server.Remaining)
}

func (s *server) compare(
	keys []string,
	describe func(check.Server, check.Look, string) string,
) string {
	var all []string
	for _, key := range keys {
		all = append(all, describe(s.seen(), s.w.entries(), key))
	}

	return strings.Trim(strings.Join(all, "; "), "; ")
}

// task is a call in the background.
type task struct {
	done chan struct{}
	err  error
}

func newTask(call func() error) *task {
	t := &task{done: make(chan struct{})}
	go func() {
		defer close(t.done)

		t.err = call()
	}()

	return t
}

// wait waits for the end of the task and returns its error.
func (t *task) wait() error {
	<-t.done
	return t.err
}

func (t *task) over() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}
