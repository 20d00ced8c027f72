package balancer

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

// server is a real gRPC server on loopback that serves the methods it says it does.
type server struct {
	endpoint.Endpoint
	connections atomic.Int64 // accepted
	open        atomic.Int64
	calls       atomic.Int64
	gate        atomic.Pointer[chan struct{}] // accepts once it is closed
	waiting     atomic.Int64                  // at the gate
	grpc        *grpc.Server
	serves      atomic.Pointer[func() error] // what a call does, nil: nothing
}

type gated struct {
	net.Listener
	s *server
}

func (l gated) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if gate := l.s.gate.Load(); gate != nil {
		l.s.waiting.Add(1)
		<-*gate
	}
	l.s.connections.Add(1)
	l.s.open.Add(1)
	return &counted{Conn: conn, s: l.s}, nil
}

type counted struct {
	net.Conn
	s    *server
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.s.open.Add(-1) })
	return c.Conn.Close()
}

// serve starts a server of an instance whose version, zone and methods are given, "-" for none.
func serve(t *testing.T, spec string) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Endpoint: *attr.Endpoint(ends(spec)[0])}
	porttest.Hold(t, lis)
	s.Addr = lis.Addr().String()
	served := s.Metadata[endpoint.MethodsName]
	s.grpc = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		s.calls.Add(1)
		method, _ := grpc.MethodFromServerStream(stream)
		if in, name := methods.Split(method); served != "" && !methods.Names(served, in, name) {
			return status.Errorf(codes.Unimplemented, "%s does not serve %s", s.Instance, method)
		}
		var in emptypb.Empty
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		if does := s.serves.Load(); does != nil {
			if err := (*does)(); err != nil {
				return err
			}
		}
		return stream.SendMsg(&in)
	}))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.grpc.Serve(gated{lis, s}) }()
	t.Cleanup(func() { s.grpc.Stop(); <-done })
	return s
}

// dead returns servers that nobody runs.
func dead(n int) []*server {
	var all []*server
	for i := range n {
		s := &server{Endpoint: endpoint.Endpoint{Instance: fmt.Sprintf("dead%04d", i), Addr: fmt.Sprintf("127.1.%d.%d:1", i/250, 1+i%250)}}
		all = append(all, s)
	}
	return all
}

func serveAll(t *testing.T, specs ...string) []*server {
	t.Helper()
	var all []*server
	for _, spec := range specs {
		all = append(all, serve(t, spec))
	}
	return all
}

// endpoints returns what discovery would make of servers.
func endpoints(servers []*server) []resolver.Endpoint {
	var all []resolver.Endpoint
	for _, s := range servers {
		e := s.Endpoint
		all = append(all, attr.New(&e, new(attr.Storage)))
	}
	return all
}

// lastBuilt is the balancer that gRPC has built last. UpdateState returns once the policy has the state, so a rig finds its
// own there.
var lastBuilt atomic.Pointer[switcher]

// noting builds the policies of rigs.
type noting struct{ builder }

func (n noting) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	b := n.builder.Build(cc, opts)
	lastBuilt.Store(b.(*switcher))
	return b
}

func init() { balancer.Register(noting{}) }

// rig is a real gRPC connection over the policy, told its state by hand.
type rig struct {
	t        *testing.T
	client   *attr.Client
	resolver *manual.Resolver
	conn     *grpc.ClientConn
	policy   *policy // set by the first hand
	sequence uint64

	mu      sync.Mutex
	reports []string
}

func newRig(t *testing.T, client *attr.Client, opts ...grpc.DialOption) *rig {
	t.Helper()
	leakless(t)
	r := &rig{t: t, client: client, resolver: manual.NewBuilderWithScheme("etcd")}
	client.Report = func(problem string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reports = append(r.reports, problem)
	}
	conn, err := grpc.NewClient("etcd:///acme/user", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(r.resolver), grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(etcdConfig(`{}`)),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r.conn = conn
	conn.Connect()
	return r
}

func etcdConfig(policy string) string { return `{"loadBalancingConfig":[{"etcd":` + policy + `}]}` }

// update hands a config of the policy and the endpoints of servers down.
func (r *rig) update(policy string, servers []*server) {
	r.t.Helper()
	r.hand(etcdConfig(policy), &attr.State{Endpoints: endpoints(servers)})
}

func (r *rig) hand(config string, s *attr.State) {
	r.t.Helper()
	r.sequence++
	s.Client, s.Sequence, s.Endpoints = r.client, r.sequence, known(s.Endpoints)
	parsed := r.resolver.CC().ParseServiceConfig(config)
	if parsed.Err != nil {
		r.t.Fatal(parsed.Err)
	}
	r.resolver.UpdateState(attr.SetState(resolver.State{Endpoints: s.Endpoints, ServiceConfig: parsed}, s))
	if r.policy == nil {
		r.policy = lastBuilt.Load().last().policy
	}
}

// call makes one call and returns the address that answered.
func (r *rig) call(ctx context.Context, method string, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var p peer.Peer
	err := r.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}, append(opts, grpc.Peer(&p))...)
	if p.Addr == nil {
		return "", err
	}
	return p.Addr.String(), err
}

// callers is how many goroutines make the calls of a load.
const callers = 4

// load is calls made without a pause. One that fails fails the test.
type load struct {
	t     *testing.T
	calls atomic.Int64
	end   context.CancelFunc
	all   sync.WaitGroup
}

func (r *rig) load(method string) *load {
	ctx, end := context.WithCancel(context.Background())
	l := &load{t: r.t, end: end}
	for range callers {
		l.all.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.call(context.Background(), method); err != nil {
					l.t.Errorf("a call under load: %v", err)
					return
				}
				l.calls.Add(1)
			}
		})
	}
	return l
}

// goOn waits until calls that began after it was called have been answered.
func (l *load) goOn() {
	l.t.Helper()
	enough := l.calls.Load() + 10*callers
	eventually(l.t, "the calls go on", func() bool { return l.calls.Load() >= enough })
}

func (l *load) stop() {
	l.end()
	l.all.Wait()
	l.t.Logf("%d calls", l.calls.Load())
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func connections(servers []*server) (made, open int64) {
	for _, s := range servers {
		made += s.connections.Load()
		open += s.open.Load()
	}
	return made, open
}

// connected makes calls until each of servers has answered one.
func (r *rig) connected(servers []*server) {
	r.t.Helper()
	eventually(r.t, "every server is connected to", func() bool {
		if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
			r.t.Fatal(err)
		}
		_, open := connections(servers)
		return open >= int64(len(servers))
	})
}

// leakless fails the test where goroutines of gRPC's client or of ours are left when all is closed.
func leakless(t *testing.T) {
	t.Helper()
	before := clientGoroutines()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		eventually(t, "the goroutines of the client end", func() bool { return len(clientGoroutines()) <= len(before) })
	})
}

func clientGoroutines() []string {
	buf := make([]byte, 8<<20)
	var left []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "http2Client") || strings.Contains(stack, "internal/balancer.(*") || strings.Contains(stack, "addrConn") ||
			strings.Contains(stack, "outlierdetection") || strings.Contains(stack, "CallbackSerializer") {
			left = append(left, stack)
		}
	}
	return left
}

func specs(n int, format string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(format, i, i%2+1, i%3))
	}
	return all
}
