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

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// patience is the longest wait for a change, which should take a moment.
const patience = 15 * time.Second

// demo is the state of a run.
type demo struct {
	cfg    config
	load   *load
	screen *screen

	cluster  *etcdtest.Cluster
	client   *clientv3.Client
	registry *runtime.Registry
	stopLoad context.CancelFunc
	stopRest context.CancelFunc // stops the watch and the screen
	rest     sync.WaitGroup

	mu      sync.Mutex
	start   time.Time // the time of the first call
	servers []*server
	down    map[int]bool         // the stopped etcd members
	inEtcd  map[string]bool      // the addresses in etcd
	lost    map[string]time.Time // when etcd lost an address
	events  []event
}

// server is a process of the quickstart's server.
type server struct {
	*show.Process
	state  string    // such as "serving" or "killed"
	diedAt time.Time // when it was killed
}

// setUp starts etcd, three servers and the calls.
func setUp(
	ctx context.Context,
	out *os.File,
	cfg config,
	dir string,
) (d *demo, err error) {
	d = &demo{
		cfg:    cfg,
		load:   newLoad(),
		down:   make(map[int]bool),
		inEtcd: make(map[string]bool),
		lost:   make(map[string]time.Time),
	}

	var loadCtx context.Context
	ctx, d.stopRest = context.WithCancel(ctx)
	loadCtx, d.stopLoad = context.WithCancel(ctx)

	defer func() {
		if err != nil {
			d.tearDown()
		}
	}()

	d.cluster, err = etcdtest.New(dir, etcdtest.WithMembers(3))
	if err != nil {
		return nil, err
	}

	d.client, err = clientv3.New(d.cluster.Config())
	if err != nil {
		return nil, err
	}

	// A log would disturb the table on the terminal.
	d.registry = runtime.NewRegistry(d.client,
		runtime.WithLogger(slog.New(slog.DiscardHandler)))

	for range 3 {
		_, err = d.addServer(ctx)
		if err != nil {
			return nil, err
		}
	}

	greeter, err := greeterv1.NewGreeterServiceClientFromEtcd(
		d.registry, show.Plaintext, grpc.WithStatsHandler(d.load))
	if err != nil {
		return nil, err
	}

	instances, err := d.registry.NewInstances(
		&greeterv1.GreeterService_EtcdServiceDesc, show.Plaintext)
	if err != nil {
		return nil, err
	}

	d.start = time.Now()
	info, err := out.Stat()
	live := err == nil &&
		info.Mode()&os.ModeCharDevice != 0 &&
		os.Getenv("TERM") != "dumb"
	d.screen = &screen{
		out:      out,
		demo:     d,
		live:     live,
		answered: make(map[string]int),
		drawn:    d.start,
	}

	d.rest.Go(func() { d.watch(ctx, instances) })
	d.rest.Go(func() { d.screen.run(ctx) })
	d.load.run(loadCtx, greeter, cfg.rate)

	return d, nil
}

func (d *demo) addServer(ctx context.Context) (*server, error) {
	name := fmt.Sprintf("server %d", len(d.servers)+1)
	etcd := "-etcd=" + strings.Join(d.cluster.Endpoints(), ",")
	process, err := show.StartProcess(ctx, name, nil, d.cfg.server, etcd)
	if err != nil {
		return nil, err
	}

	added := &server{Process: process, state: "serving"}
	d.mu.Lock()
	defer d.mu.Unlock()

	d.servers = append(d.servers, added)

	return added, nil
}

// watch keeps inEtcd up to date. Instances omits departed endpoints, also while
// callers still hold them.
func (d *demo) watch(ctx context.Context, instances *runtime.Instances) {
	for tick := time.Tick(50 * time.Millisecond); ctx.Err() == nil; {
		if all, err := instances.All(ctx); err == nil {
			d.setInstances(all)
		}

		select {
		case <-ctx.Done():
		case <-tick:
		}
	}
}

func (d *demo) setInstances(all []runtime.Instance) {
	now := make(map[string]bool, len(all))
	for _, instance := range all {
		now[instance.Addr] = true
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	for addr := range d.inEtcd {
		if !now[addr] {
			d.lost[addr] = time.Now()
		}
	}

	d.inEtcd = now
}

// happens records an event, which the screen shows.
func (d *demo) happens(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()

	d.events = append(d.events,
		event{after: time.Since(d.start), text: fmt.Sprintf(format, args...)})
}

func (d *demo) setState(server *server, state string) {
	d.mu.Lock()
	defer d.mu.Unlock()

	server.state = state
}

// number returns the index of an etcd member, from 1.
func (d *demo) number(member *etcdtest.Member) int {
	return slices.Index(d.cluster.Members(), member) + 1
}

// row is a line of the table.
type row struct{ name, addr, state, inEtcd string }

func (d *demo) rows() []row {
	d.mu.Lock()
	defer d.mu.Unlock()

	rows := make([]row, len(d.servers))
	for i, server := range d.servers {
		rows[i] = row{
			name:   server.Name,
			addr:   server.Addr,
			state:  server.state,
			inEtcd: "no",
		}
		if d.inEtcd[server.Addr] {
			rows[i].inEtcd = "yes"
		}
	}

	return rows
}

// etcdLine describes the running etcd members.
func (d *demo) etcdLine() string {
	d.mu.Lock()
	defer d.mu.Unlock()

	line := "etcd:"
	for i := range d.cluster.Members() {
		state := "up"
		if d.down[i+1] {
			state = "down"
		}

		line += fmt.Sprintf(" member %d %s", i+1, state)
	}

	return line
}

// conclude prints a summary in plain words. It returns an error if a call
// failed.
func (d *demo) conclude(out io.Writer) error {
	servers, total, lastErr := d.load.snapshot()
	calls := total.answered + total.failed
	if total.failed > 0 {
		return fmt.Errorf("%d of %d calls failed, the last with: %w", total.failed,
			calls, lastErr)
	}

	fmt.Fprintf(out, "\nOf %d calls not one failed; the slowest took %v.\n",
		calls, total.slowest.Round(time.Millisecond))

	if total.broken == 0 {
		fmt.Fprintln(out, "No call was under way on the server that was killed.")
	}

	for _, server := range d.servers {
		if broken := servers[server.Addr].broken; broken > 0 {
			fmt.Fprintf(out,
				"Calls that came to nothing on %s (%s): %d. gRPC made each again elsewhere, as greeter.proto says.\n",
				server.Name, server.state, broken)
		}
	}

	return nil
}

// end stops the calls, waits for the last call, and stops the watch and the
// screen.
func (d *demo) end() {
	d.stopLoad()
	d.load.done.Wait()
	d.stopRest()
	d.rest.Wait()
}

// tearDown stops everything that still runs. It may be called at any time, and
// more than once.
func (d *demo) tearDown() {
	d.end()

	for _, server := range d.servers {
		if !server.Ended() {
			// the demo is over: its exit code does not matter
			_ = server.End(os.Kill, patience)
		}
	}

	if d.registry != nil {
		_ = d.registry.Close(context.Background()) // the demo is over
	}

	if d.client != nil {
		d.client.Close()
	}

	if d.cluster != nil {
		d.cluster.Close()
	}
}
