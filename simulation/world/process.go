package world

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// ttl is the lease TTL of every service.
const ttl = 5 * time.Second

// process is the part that servers, callers and writers share: a host on the network, and a client of etcd. Whoever holds the
// turn may read all of it, and change it; mu guards what others read as well.
type process struct {
	w        *World
	index    int           // its place among the processes
	host     string        // where it listens
	turn     chan struct{} // held by what happens to the process
	mu       *sync.Mutex
	life     int       // counts, from 1
	begun    time.Time // when that life has
	from     string    // where it dials from: each life has its own, so that a dead one can be cut off for good
	log      *counter
	dials    *atomic.Int64 // to etcd
	client   *clientv3.Client
	registry *runtime.Registry
}

func newProcess(w *World, index int) process {
	p := process{w: w, index: index, host: w.plan.Host(index), turn: make(chan struct{}, 1), mu: new(sync.Mutex), dials: new(atomic.Int64)}
	p.log = &counter{logged: func(about, line string) {
		w.note("%s logs: %s", p.name(), line)
		if about != "" {
			w.observe(func(j *check.Judge) { j.Line(time.Now(), p.name(), about) })
		}
	}}
	return p
}

func (p *process) name() string { return p.w.plan.Name(p.index) }

// do runs f when nothing else happens to the process.
func (p *process) do(f func()) {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	f()
}

// begin begins another life.
func (p *process) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
	p.begun = time.Now()
	p.from = dialHost(p.index, p.life)
}

// current returns the latest life and where it dials from, for those who do not hold the turn.
func (p *process) current() (life int, from string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life, p.from
}

// firstLife is added to a life for the network that it dials from.
const firstLife = 100

func dialHost(process, life int) string { return fmt.Sprintf("10.%d.0.%d", firstLife+life, process+1) }

// processAt returns the index of the process that dials from a host, -1 if there is none.
func processAt(host string) int {
	var life, index int
	if n, err := fmt.Sscanf(host, "10.%d.0.%d", &life, &index); n != 2 || err != nil || life <= firstLife {
		return -1
	}
	return index - 1
}

// connectAgain is how long a process waits before it tries again to make a client.
const connectAgain = time.Second

// connect makes a client of etcd, as the documentation recommends.
func (p *process) connect() {
	config := clientv3.Config{
		Endpoints:            p.w.memberAddrs(),
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          []grpc.DialOption{grpc.WithContextDialer(p.dialEtcd())},
		Logger:               zap.NewNop(),
	}
	for {
		client, err := p.w.rights.client(config, p.name())
		if err == nil {
			client.Lease = lessee{client.Lease, p.w, p.from}
			p.client = client
			return
		}
		// With a password, New itself asks etcd, which may be away.
		time.Sleep(connectAgain)
	}
}

// open makes a registry.
func (p *process) open(opts ...runtime.Option) {
	p.connect()
	opts = append(opts, runtime.WithLeaseTTL(ttl), runtime.WithEmptyGrace(check.Grace), runtime.WithLogger(slog.New(p.log)))
	p.registry = runtime.NewRegistry(p.client, opts...)
}

// closing is how long Registry.Close may take.
const closing = 6 * time.Second

// shut closes the registry and the client.
func (p *process) shut(ctx context.Context) {
	_ = p.closeRegistry(ctx) // what it could not take out of etcd expires, and settle checks that
	p.client.Close()
}

func (p *process) closeRegistry(ctx context.Context) error {
	began := time.Now()
	err := p.registry.Close(ctx)
	p.bound(ctx, began, "Registry.Close", closing)
	if err == nil {
		p.returned(began)
	}
	return err
}

// contextOnly is the bound of a call that its context alone bounds.
const contextOnly = time.Hour

// bound reports a call that took longer than its context and its own bound allow.
func (p *process) bound(ctx context.Context, began time.Time, what string, longest time.Duration) {
	end := began.Add(longest)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	if late := time.Since(end); late > slack {
		p.w.report(check.Hangs, "%s of %s took %v, %v longer than it may", what, p.name(), time.Since(began), late)
	}
}

// slack is how much longer than its bound a call may take.
const slack = 200 * time.Millisecond

// dead returns a context that has ended. What is closed with it has no time to tell anybody.
func dead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// vanish takes this life off the network for good.
func (p *process) vanish() { p.w.network.Remove(p.from) }

// crash ends all connections of this life at once. To stop a gRPC server takes as long as a handshake that is under way.
func (p *process) crash() {
	p.w.network.Crash(p.host)
	p.vanish()
}

func (p *process) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(p.w.network.Dialer(p.from))}
}
