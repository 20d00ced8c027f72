package harness

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
)

// process is the part that servers, callers and writers share: a host on the network, and a client of etcd. Whoever holds the
// turn may read all of it, and change it; mu guards what others read as well.
type process struct {
	w          *world
	index      int           // its place among the processes
	host       string        // where it listens
	turn       chan struct{} // held by what happens to the process
	mu         *sync.Mutex
	life       int       // counts, from 1
	begun      time.Time // when that life has
	from       string    // where it dials from: each life has its own, so that a dead one can be cut off for good
	log        *counter
	dials      *atomic.Int64 // to etcd
	client     *clientv3.Client
	disconnect func() // closes client
	registry   *runtime.Registry
	closed     *atomic.Bool      // the registry is closed
	closeErr   error             // by its first Close
	live       *runtime.Registry // nil: the process is down; under mu
}

func newProcess(w *world, index int) *process {
	p := &process{
		w: w, index: index, host: w.Plan.Host(index), turn: make(chan struct{}, 1), mu: new(sync.Mutex), dials: new(atomic.Int64),
	}
	p.log = &counter{states: make(map[logged]string), logged: func(about, line string) {
		w.Note("%s logs: %s", p.name(), line)
		if about != "" {
			w.Observe(func(j *check.Judge) { j.Line(time.Now(), p.name(), about) })
		}
	}}
	return p
}

func (p *process) name() string { return p.w.Plan.Name(p.index) }

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
	p.from, p.closed = p.w.Plan.DialHost(p.index, p.life), new(atomic.Bool)
	p.setLine(p.from, network.Link{})
}

// setLine sets the links of a life to all members of etcd, which are as far away as the schedule says.
func (p *process) setLine(from string, l network.Link) {
	for i := range p.w.Plan.Members {
		p.w.setLink(from, i, l)
	}
}

// current returns the latest life and where it dials from, for those who do not hold the turn.
func (p *process) current() (life int, from string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life, p.from
}

// running returns the registry, nil while the process is down, for those who do not hold the turn.
func (p *process) running() *runtime.Registry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// cutOff reports whether the present life is cut off from etcd.
func (p *process) cutOff() bool {
	p.mu.Lock()
	begun := p.begun
	p.mu.Unlock()
	return p.w.CutOff(p.index, begun)
}

// open makes a registry on the client.
func (p *process) open(opts ...runtime.Option) {
	opts = append(opts, runtime.WithLeaseTTL(p.w.Plan.LeaseTTL()), runtime.WithEmptyGrace(check.Grace), runtime.WithLogger(slog.New(lifeLog{p.log, p.closed, p.w, p.name(), p.index, p.life})))
	p.registry = runtime.NewRegistry(p.client, opts...)
	p.log.registry.Store(p.registry)
}

// closing is how long Registry.Close may take.
const closing = 6 * time.Second

// shut closes the registry and the client.
func (p *process) shut(ctx context.Context) {
	_ = p.closeRegistry(ctx, closing)
	p.disconnect()
}

// lingers is how long a client outlives its registry, which is to ask etcd for nothing more.
const lingers = 6 * time.Second

// linger closes the client a while from now, and then takes this life off the network.
func (p *process) linger() {
	disconnect, from := p.disconnect, p.from
	p.w.later.Go(func() {
		time.Sleep(lingers)
		disconnect()
		p.w.network.Remove(from)
	})
}

// closeRegistry closes the registry. It checks that no lease is left in etcd but those that the error names, and that there is no
// error where nothing was in the way.
func (p *process) closeRegistry(ctx context.Context, most time.Duration) error {
	began := time.Now()
	err := p.registry.Close(ctx)
	p.bound(ctx, began, "Registry.Close", most)
	if p.closed.Swap(true) {
		if fmt.Sprint(err) != fmt.Sprint(p.closeErr) {
			p.w.Report(check.Answers, "Registry.Close of %s returned %v, and before that %v", p.name(), err, p.closeErr)
		}
		return err
	}
	p.closeErr = err
	if p.w.ResetSince(began.Add(-record.HeardOfReset)) {
		return err
	}
	for _, lease := range p.w.LeasesLeft(p.from) {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("lease %x", lease)) {
			p.w.Report(check.LeftBehind, "Registry.Close of %s returned %v, and etcd has its lease %x", p.name(), err, lease)
		}
	}
	if err != nil && ctx.Err() == nil && !p.hamperedSince(began) && !p.w.BarredSince(p.index, began.Sub(p.w.Began)) {
		p.w.Report(check.Answers, "Registry.Close of %s, with nothing in its way: %v", p.name(), err)
	}
	return err
}

// hamperedSince reports whether anything may have kept the process from what it was to do in etcd since a time.
func (p *process) hamperedSince(began time.Time) bool {
	at := began.Sub(p.w.Began)
	return p.w.HamperedSince(p.index, at) || p.w.Full(at)
}

// bound reports a call that took longer than its context and its own bound allow.
func (p *process) bound(ctx context.Context, began time.Time, what string, most time.Duration) {
	p.w.Bound(ctx, began, what, p.name(), most)
}

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

// noteLink has the judge hear of the link to another process, unless the life that dials from a host has ended.
func (p *process) noteLink(from string, to int, l network.Link) {
	if _, now := p.current(); now == from {
		p.w.Observe(func(j *check.Judge) { j.Link(time.Now(), p.name(), p.w.Plan.Name(to), l.Cut, l.Stalled) })
	}
}

// noteReset has the judge hear that connections to another process are reset.
func (p *process) noteReset(to int) {
	p.w.Observe(func(j *check.Judge) { j.Reset(time.Now(), p.name(), p.w.Plan.Name(to)) })
}

// setLinks sets the links of a life from all other processes.
func (p *process) setLinks(from string, l network.Link) {
	for i := range p.w.Plan.Processes() {
		p.w.network.Set(p.w.Plan.Host(i), from, l)
		p.noteLink(from, i, l)
	}
}
