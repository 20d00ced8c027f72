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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// process is the common part of servers, callers and writers: a host on the
// network and an etcd client. The holder of turn may read and change all
// fields. mu guards the fields that other goroutines read.
type process struct {
	w           *world
	index       int           // the index among the processes of the world
	parts       bool          // the etcd client is made from separate parts
	host        string        // the host on which the process listens
	turn        chan struct{} // holds a value while a step affects the process
	mu          *sync.Mutex
	incarnation int    // the number of this incarnation, from 1
	from        string // the host that this incarnation dials from
	client      *clientv3.Client
	disconnect  func() // closes client
	registry    *runtime.Registry
	closed      *atomic.Bool      // whether the registry is closed
	closeErr    error             // the result of the registry's latest Close
	live        *runtime.Registry // nil while the process is down; guarded by mu
}

func newProcess(w *world, index int, parts bool) *process {
	p := &process{
		w:     w,
		index: index,
		parts: parts,
		host:  w.schedule.Host(index),
		turn:  make(chan struct{}, 1),
		mu:    new(sync.Mutex),
	}

	w.processes = append(w.processes, p)

	return p
}

func (p *process) name() string {
	return p.w.schedule.Name(p.index)
}

// do runs f while no other step affects the process.
func (p *process) do(f func()) {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()

	f()
}

// begin starts the next incarnation.
func (p *process) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.incarnation++
	p.from = p.w.schedule.DialHost(p.index, p.incarnation)
	p.closed = new(atomic.Bool)

	p.w.record(func(h *check.History) {
		h.Hosts[p.from] = p.name()

		// all links are whole
		h.Links = append(h.Links, check.Link{At: time.Now(), A: p.name()})
	})

	p.w.setLine(p.from, network.Link{})
}

// current returns the number and the dialing host of the latest incarnation.
// The caller need not hold turn.
func (p *process) current() (incarnation int, from string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.incarnation, p.from
}

// running returns the registry, or nil while the process is down. The caller
// need not hold turn.
func (p *process) running() *runtime.Registry {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.live
}

// open makes a registry with the process's etcd client.
func (p *process) open(opts ...runtime.Option) {
	log := &incarnationLog{p: *p}
	opts = append(opts,
		runtime.WithLeaseTTL(p.w.schedule.LeaseTTL()),
		runtime.WithEmptyGrace(grace),
		runtime.WithLogger(slog.New(log)))
	p.registry = runtime.NewRegistry(p.client, opts...)
	log.registry.Store(p.registry)
}

// grace is how long callers hold deleted entries that were not leaving.
const grace = 5 * time.Second

// closing bounds Registry.Close.
const closing = 6 * time.Second

// lingers is how long a client stays open after its registry was closed, to
// detect requests that must not be made.
const lingers = 6 * time.Second

// linger closes the client after the time lingers, and then takes this
// incarnation off the network.
func (p *process) linger() {
	disconnect := p.disconnect
	from := p.from
	p.w.later.Go(func() {
		time.Sleep(lingers)
		disconnect()
		p.w.network.Remove(from)
	})
}

// closeRegistry closes the registry. The first Close must leave no lease in
// etcd, and a second Close must return the same error.
func (p *process) closeRegistry(ctx context.Context, longest time.Duration) {
	act := check.Act{What: "Registry.Close", Who: p.name(), Longest: longest}
	again := p.closed.Load()
	before := p.closeErr

	if ctx.Err() == nil && !again {
		act.Soon = longest
	}

	closes := func(ctx context.Context) error {
		defer p.closed.Store(true)

		return p.registry.Close(ctx)
	}
	remaining := func() string {
		leases := p.w.leases(p.from)
		if len(leases) > 0 && !again {
			return fmt.Sprintf("etcd still has its leases %x", leases)
		}

		return ""
	}

	p.closeErr = p.w.act(ctx, act, closes, remaining)

	if again && fmt.Sprint(p.closeErr) != fmt.Sprint(before) {
		p.w.report(check.Returns,
			"a second Registry.Close of %s returned %v, want %v again", p.name(),
			p.closeErr, before)
	}
}

// crash ends all connections of this incarnation and takes it off the network,
// before the gRPC server stops, which may take a while.
func (p *process) crash() {
	p.w.network.Crash(p.host)
	p.w.network.Remove(p.from)
}

func (p *process) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.w.network.Dialer(p.from)),
	}
}

// noteLink records a change of the link to another process. Nothing is recorded
// once the incarnation with the host from has ended.
func (p *process) noteLink(from string, to int, l check.Link) {
	if _, now := p.current(); now != from {
		return
	}

	l.At = time.Now()
	l.A = p.name()
	l.B = p.w.schedule.Name(to)
	p.w.record(func(h *check.History) { h.Links = append(h.Links, l) })
}

// setLink sets the link between the incarnation with the host from and another
// process.
func (p *process) setLink(from string, to int, l network.Link) {
	p.w.network.Set(p.w.schedule.Host(to), from, l)
	p.noteLink(from, to, check.Link{Broken: l.Cut || l.Stalled})
}

// setLinks sets the links between the incarnation with the host from and all
// processes.
func (p *process) setLinks(from string, l network.Link) {
	for i := range p.w.schedule.Processes() {
		p.setLink(from, i, l)
	}
}

// incarnationLog is a slog.Handler that records the lines of one incarnation of
// a process.
type incarnationLog struct {
	slog.Handler // nil: the runtime does not call WithAttrs and WithGroup

	// a copy of the process at the start of the incarnation
	p process

	// Handle calls methods of the registry at each log line. They hang if the
	// runtime logs while it holds a lock.
	registry atomic.Pointer[runtime.Registry]
}

// troubles holds the messages about failures of etcd.
var troubles = map[string]bool{
	"etcd watch interrupted; listing again": true,
	"etcd list failed; trying again":        true,
}

// Handle records a line. Lines about closed registrations may come any number
// of times.
func (l *incarnationLog) Handle(_ context.Context, r slog.Record) error {
	w := l.p.w
	name := l.p.name()
	w.count(l.p.index, func(c *check.Counts) { c.Lines++ })
	l.ask()

	about := r.Message
	attrs := ""
	r.Attrs(func(a slog.Attr) bool {
		switch {
		case a.Key == "key":
			about += " " + a.Value.String()
		case a.Key == "state" && a.Value.String() == runtime.StateClosed.String():
			about = ""
		}

		attrs += " " + a.String()

		return true
	})

	w.note("%s logs: %s%s", name, r.Message, attrs)

	if l.p.closed.Load() {
		w.report(check.LeftBehind, "the closed registry of %s logged %q, want nothing",
			name, r.Message)
	}

	// A killed incarnation may report its lost connections. Any incarnation may
	// report that an invalid token ended a stream, or that etcd had no users
	// when the stream was opened.
	tokenless := strings.Contains(attrs, codes.Unauthenticated.String()) ||
		strings.Contains(attrs, "user name is empty")
	trouble := troubles[r.Message] && !tokenless && !w.network.Removed(l.p.from)

	w.record(func(h *check.History) {
		h.Lines = append(h.Lines, check.Line{
			At:          time.Now(),
			Incarnation: name + " at " + l.p.from,
			About:       about,
			Trouble:     trouble,
		})
	})

	return nil
}

// ask calls methods of the registry that take its locks.
func (l *incarnationLog) ask() {
	registry := l.registry.Load()
	if registry == nil {
		return
	}

	over, cancel := context.WithCancel(context.Background())
	cancel()

	for _, k := range registry.Status().Keys {
		for _, err := range registry.Watch(over, k.Key, l.p.w.asked()) {
			_ = err // only the return of the call matters
		}
	}
}

// Enabled returns true for all levels.
func (l *incarnationLog) Enabled(context.Context, slog.Level) bool {
	return true
}
