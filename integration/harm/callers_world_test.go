package harm

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

const (
	service = "leader.Counter"
	key     = "leader/counter"
)

// row is one environment for both clients. Comments name the meaning of a zero
// value.
type row struct {
	name     string
	servers  int                 // 0: three
	serve    shape               // nil: plain
	opts     []grpc.ServerOption // of the servers
	tags     map[string]any      // metadata of every second server
	unlisted int                 // the last unlisted servers are left to the script to start
	prepare  func(w *world)      // runs before there are clients; nil: nothing
	script   func(w *world)      // runs while the calls are made; nil: nothing
	cold     bool                // the counted calls begin without connections to servers

	way      way
	calls    calls
	ours     string            // policy of our client, as JSON; "": round_robin
	grpcs    string            // policy of gRPC's client; "": round_robin
	registry []runtime.Option  // options of our client's registry
	dial     []grpc.DialOption // options of both clients
	swallow  int               // how many of the addresses that a client dials first drop SYNs
	lasts    time.Duration     // 0: 2 s
}

// calls is the traffic of each client. Comments name the meaning of a zero
// value.
type calls struct {
	callers  int           // 0: four
	every    time.Duration // time between two calls of a caller; 0: 60 ms
	deadline time.Duration // 0: 2 s
	wait     bool          // with WaitForReady
}

// way defines the servers that may answer a call, and how clients ask for them.
// Call i is of kind i modulo kinds.
type way struct {
	kinds int                                                 // 0: one
	ours  func(ctx context.Context, kind int) context.Context // nil: ctx as it is
	grpcs func(ctx context.Context, kind int) context.Context // nil: ctx as it is

	// the servers that may answer; nil: all
	allowed func(s *server, kind int) bool

	// calls of a kind belong to the server that answered the first of them
	owned bool

	leader bool // the calls are for the leader
}

// world is a running row.
type world struct {
	*row
	t         *testing.T
	namespace string
	net       network
	us, them  *client
	ctx       context.Context // ends with the calls
	closers   []func()

	mu      sync.Mutex
	servers []*server
	lists   []*list
}

// list is a resolver of gRPC's client, with the servers that it may resolve to.
type list struct {
	resolver *manual.Resolver
	allowed  map[*server]bool
}

// runs counts runs of rows. The count is part of the namespace of a run.
var runs atomic.Int64

// runRow runs a row and returns its world, which has the counts of both
// clients.
func runRow(t *testing.T, r row) *world {
	r.servers = cmp.Or(r.servers, 3)
	r.way.kinds = cmp.Or(r.way.kinds, 1)
	r.calls.callers = cmp.Or(r.calls.callers, 4)
	r.calls.every = cmp.Or(r.calls.every, 60*time.Millisecond)
	r.calls.deadline = cmp.Or(r.calls.deadline, 2*time.Second)
	r.lasts = cmp.Or(r.lasts, 2*time.Second)

	if r.serve == nil {
		r.serve = plain
	}

	w := &world{
		row:       &r,
		t:         t,
		namespace: fmt.Sprintf("row%d/", runs.Add(1)),
		net:       network{links: map[string]*link{}},
	}
	defer w.close()

	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()

	w.startServers()

	if r.prepare != nil {
		r.prepare(w)
	}

	w.us = w.ourClient()
	w.them = w.grpcsClient()

	if !r.cold {
		var warming sync.WaitGroup
		for _, c := range []*client{w.us, w.them} {
			warming.Go(func() { c.warm(w) })
		}

		warming.Wait()
	}

	var running sync.WaitGroup
	for _, c := range []*client{w.us, w.them} {
		for range w.calls.callers {
			running.Go(func() { c.run(w) })
		}
	}

	if w.script != nil {
		running.Go(func() { w.script(w) })
	}

	w.sleep(w.lasts)
	cancel()
	running.Wait()
	w.us.end()
	w.them.end()

	return w
}

func (w *world) close() {
	for _, l := range w.net.links {
		l.set(sound) // on a broken link gRPC would wait 5 s for its last write
		l.reset()
	}

	for i := len(w.closers) - 1; i >= 0; i-- {
		w.closers[i]()
	}
}

func (w *world) startServers() {
	w.closers = append(w.closers, func() { w.each(func(s *server) { s.end(false) }) })

	for i := range w.row.servers {
		s := &server{
			w:    w,
			i:    i,
			name: fmt.Sprintf("s%d", i),
			addr: fmt.Sprintf("10.0.%d.%d:9000", i>>8, i&255),
		}

		s.link = w.net.to(s.addr)

		if i%2 == 0 {
			s.tags = w.tags
		}

		w.servers = append(w.servers, s)
		if i >= w.row.servers-w.unlisted {
			continue
		}

		s.start()
		s.listed = true

		if s.states == nil {
			s.put()
			continue
		}

		w.await("the server is in etcd", func() bool {
			return len(s.states()) > 0 && !slices.ContainsFunc(s.states(),
				func(now runtime.Status) bool { return now.State != runtime.StateRegistered })
		})
	}

	if w.way.leader {
		w.await("one leads", func() bool { return w.leading() != nil })
	}
}

// leading returns the server that leads, or nil.
func (w *world) leading() *server {
	for _, s := range w.servers {
		if s.leads != nil && s.leads.Holds() {
			return s
		}
	}

	return nil
}

// await waits until ok returns true. It polls less often than kit.Eventually,
// to leave the processors to other rows.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()

	for range 3000 {
		if ok() {
			return
		}

		time.Sleep(50 * time.Millisecond)
	}

	w.t.Fatalf("timeout after 150 s, want: %s", what)
}

func (w *world) desc() *runtime.ServiceDesc {
	desc := &runtime.ServiceDesc{
		Name:          service,
		Key:           key,
		LeaseTTL:      10 * time.Second,
		ServiceConfig: serviceConfig(w.ours),
	}
	if w.way.leader {
		desc.Extension = leader.Methods{leaderpb.Counter_Add_FullMethodName}
	}

	return desc
}

func serviceConfig(policy string) string {
	return `{"loadBalancingConfig":[` + cmp.Or(policy, `{"round_robin":{}}`) + `]}`
}

// ourClient returns a client of the runtime, with its own registry and etcd
// client.
func (w *world) ourClient() *client {
	c := newClient(w)
	etcdClient, err := clientv3.New(etcd.Config())
	kit.Must(w.t, err)
	opts := []runtime.Option{runtime.WithNamespace(w.namespace),
		runtime.WithLogger(slog.New(slog.DiscardHandler))}
	registry := runtime.NewRegistry(etcdClient, append(opts, w.row.registry...)...)
	w.closers = append(w.closers, func() {
		closeRegistry(registry)
		_ = etcdClient.Close()
	})

	if w.cold {
		for _, err := range registry.Watch(w.t.Context(), key) {
			if err == nil {
				break // etcd has answered, as gRPC's client knows the addresses from the start
			}
		}
	}

	conn, err := registry.NewClient(w.desc(), w.dialOptions(c)...)
	kit.Must(w.t, err)
	c.conns = []grpc.ClientConnInterface{conn}
	c.say = w.way.ours

	return c
}

// grpcsClient returns a client with gRPC's own policy and a manual resolver.
func (w *world) grpcsClient() *client {
	c := newClient(w)
	c.say = w.way.grpcs

	for kind := range w.way.kinds {
		l := &list{resolver: manual.NewBuilderWithScheme("list"), allowed: map[*server]bool{}}
		for _, s := range w.servers {
			l.allowed[s] = w.way.allowed == nil || w.way.allowed(s, kind)
		}

		w.mu.Lock()
		w.lists = append(w.lists, l)
		w.resolve()
		w.mu.Unlock()

		conn, err := grpc.NewClient("list:///leader.counter",
			append(w.dialOptions(c), grpc.WithResolvers(l.resolver),
				grpc.WithDefaultServiceConfig(serviceConfig(w.grpcs)))...)
		kit.Must(w.t, err)
		w.closers = append(w.closers, func() { _ = conn.Close() })
		c.conns = append(c.conns, conn)

		if w.way.allowed == nil {
			break
		}
	}

	return c
}

func (w *world) dialOptions(c *client) []grpc.DialOption {
	return append([]grpc.DialOption{kit.Insecure, grpc.WithContextDialer(w.net.dialer(&c.tally))},
		w.dial...)
}

// resolve gives the resolvers of gRPC's client the addresses of the listed
// servers.
func (w *world) resolve() {
	for _, l := range w.lists {
		var state resolver.State
		for _, s := range w.servers {
			if s.listed && l.allowed[s] {
				state.Endpoints = append(state.Endpoints, ringhash.SetHashKey(resolver.Endpoint{
					Addresses: []resolver.Address{{Addr: s.addr}},
				}, s.name))
			}
		}

		l.resolver.UpdateState(state)
	}
}

// sleep sleeps for d, and returns false if the calls end before that.
func (w *world) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.ctx.Done():
		return false
	}
}

// every runs do at intervals of d until the calls end.
func (w *world) every(d time.Duration, do func(n int)) {
	for n := 0; w.sleep(d); n++ {
		do(n)
	}
}

// each runs do for all servers at once.
func (w *world) each(do func(s *server)) {
	var doing sync.WaitGroup
	for _, s := range w.servers {
		doing.Go(func() { do(s) })
	}

	doing.Wait()
}

// links applies change to the links to servers.
func (w *world) links(change func(q *quality), servers ...*server) {
	for _, s := range servers {
		s.link.set(change)
	}
}

// live puts a live config with the policy, or deletes the live config if policy
// is "". Only our client reads live configs.
func (w *world) live(policy string) {
	at := w.namespace + "_grpc_config/" + key
	op := clientv3.OpPut(at, serviceConfig(policy))
	if policy == "" {
		op = clientv3.OpDelete(at)
	}

	_, err := etcd.Admin().Do(w.t.Context(), op)
	kit.Must(w.t, err)
}

// report sets the health status of servers.
func (w *world) report(status healthpb.HealthCheckResponse_ServingStatus, servers ...*server) {
	for _, s := range servers {
		s.health.SetServingStatus(service, status)
	}
}
