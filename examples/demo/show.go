package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// patience bounds every wait for something that should take a moment.
const patience = 15 * time.Second

// show is what the demo runs, and what it knows about it.
type show struct {
	cfg    config
	binary string
	load   *load
	screen *screen

	cluster  *etcdtest.Cluster
	client   *clientv3.Client
	registry *runtime.Registry
	stopLoad context.CancelFunc
	stopRest context.CancelFunc // the watch and the screen
	rest     sync.WaitGroup

	mu      sync.Mutex
	start   time.Time // of the first call
	servers []*server
	down    map[int]bool         // the etcd members that are stopped
	inEtcd  map[string]bool      // the addresses that etcd has
	left    map[string]time.Time // when an address left etcd
	events  []event
}

// server is a process and what became of it.
type server struct {
	*process
	state  string
	diedAt time.Time // when it was killed
}

// setUp starts etcd, three servers and the calls.
func setUp(ctx context.Context, out *os.File, cfg config, dir, binary string) (s *show, err error) {
	s = &show{cfg: cfg, binary: binary, load: newLoad(),
		down: make(map[int]bool), inEtcd: make(map[string]bool), left: make(map[string]time.Time)}
	ctx, s.stopRest = context.WithCancel(ctx)
	var loadCtx context.Context
	loadCtx, s.stopLoad = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			s.tearDown()
		}
	}()
	if s.cluster, err = etcdtest.New(dir, etcdtest.WithMembers(3)); err != nil {
		return nil, err
	}
	if s.client, err = clientv3.New(s.cluster.Config()); err != nil {
		return nil, err
	}
	// What it logs would land in the middle of the table.
	s.registry = runtime.NewRegistry(s.client, runtime.WithLogger(slog.New(slog.DiscardHandler)))
	for range 3 {
		if _, err = s.addServer(ctx); err != nil {
			return nil, err
		}
	}
	greeter, err := greeterv1.NewGreeterServiceClientFromEtcd(s.registry,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(s.load))
	if err != nil {
		return nil, err
	}
	instances, err := s.registry.NewInstances(&greeterv1.GreeterService_EtcdServiceDesc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	s.start = time.Now()
	s.screen = newScreen(out, s)
	s.rest.Go(func() { s.watch(ctx, instances) })
	s.rest.Go(func() { s.screen.run(ctx) })
	s.load.run(loadCtx, greeter, cfg.rate)
	return s, nil
}

func (s *show) addServer(ctx context.Context) (*server, error) {
	process, err := startProcess(ctx, fmt.Sprintf("server %d", len(s.servers)+1), s.binary, s.cluster.Endpoints())
	if err != nil {
		return nil, err
	}
	added := &server{process: process, state: "serving"}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers = append(s.servers, added)
	return added, nil
}

// watch keeps inEtcd at what etcd says. Instances leaves out what has vanished from etcd and is only
// held by callers for a grace.
func (s *show) watch(ctx context.Context, instances *runtime.Instances) {
	for tick := time.Tick(50 * time.Millisecond); ctx.Err() == nil; {
		if all, err := instances.All(ctx); err == nil {
			s.setInstances(all)
		}
		select {
		case <-ctx.Done():
		case <-tick:
		}
	}
}

func (s *show) setInstances(all []runtime.Instance) {
	now := make(map[string]bool, len(all))
	for _, instance := range all {
		now[instance.Addr] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr := range s.inEtcd {
		if !now[addr] {
			s.left[addr] = time.Now()
		}
	}
	s.inEtcd = now
}

// happens notes an event and shows it.
func (s *show) happens(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event{after: time.Since(s.start), text: fmt.Sprintf(format, args...)})
}

func (s *show) setState(server *server, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	server.state = state
}

func (s *show) setDown(member *etcdtest.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[s.number(member)] = true
}

// number counts the etcd members from 1.
func (s *show) number(member *etcdtest.Member) int {
	return slices.Index(s.cluster.Members(), member) + 1
}

// listed reports whether etcd has the server.
func (s *show) listed(server *server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inEtcd[server.addr]
}

// listedFor is how long after its death the server left etcd.
func (s *show) listedFor(server *server) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[server.addr].Sub(server.diedAt)
}

// row is a line of the table.
type row struct{ name, addr, state, inEtcd string }

func (s *show) rows() []row {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := make([]row, len(s.servers))
	for i, server := range s.servers {
		rows[i] = row{name: server.name, addr: server.addr, state: server.state, inEtcd: "no"}
		if s.inEtcd[server.addr] {
			rows[i].inEtcd = "yes"
		}
	}
	return rows
}

// etcdLine says which etcd members run.
func (s *show) etcdLine() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var line strings.Builder
	line.WriteString("etcd:")
	for i := range s.cluster.Members() {
		state := "up"
		if s.down[i+1] {
			state = "down"
		}
		fmt.Fprintf(&line, " member %d %s", i+1, state)
	}
	return line.String()
}

// eventsSince are the events after the first n.
func (s *show) eventsSince(n int) []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[n:])
}

// conclude says in plain words how it went. It is an error if a call failed.
func (s *show) conclude(out io.Writer) error {
	servers, total, lastErr := s.load.snapshot()
	calls := total.answered + total.failed
	if total.failed > 0 {
		return fmt.Errorf("%d of %d calls failed, the last with: %w", total.failed, calls, lastErr)
	}
	fmt.Fprintf(out, "\nOf %d calls not one failed; the slowest took %v.\n",
		calls, total.slowest.Round(time.Millisecond))
	if total.broken == 0 {
		fmt.Fprintln(out, "None was under way on a server as that was killed.")
	}
	for _, server := range s.servers {
		if broken := servers[server.addr].broken; broken > 0 {
			fmt.Fprintf(out, "Calls that came to nothing on %s (%s): %d. gRPC made each again elsewhere, as greeter.proto says.\n",
				server.name, server.state, broken)
		}
	}
	return nil
}

// end stops the calls, waits for the last, and shows the outcome.
func (s *show) end() {
	s.stopLoad()
	s.load.wait()
	s.stopRest()
	s.rest.Wait()
}

// tearDown ends whatever still runs. It may be called at any time, and again.
func (s *show) tearDown() {
	s.end()
	for _, server := range s.servers {
		if !server.ended() {
			_ = server.end(os.Kill, patience) // the demo is over: how it ends tells nothing
		}
	}
	if s.registry != nil {
		_ = s.registry.Close(context.Background()) // as above
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.cluster != nil {
		s.cluster.Close()
	}
}
