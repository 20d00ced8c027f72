package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc/stats"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// load calls the greeters at a steady rate and counts the results. It is also
// the connection's stats handler, to count attempts.
type load struct {
	client greeterv1.GreeterServiceClient
	done   sync.WaitGroup

	mu      sync.Mutex
	servers map[string]tally // the counts by server address
	total   tally
	lastErr error
}

// tally counts the calls of one server, or of all.
type tally struct {
	answered int

	// failed attempts, after which gRPC retries the call if the retry policy
	// allows
	broken int

	failed  int // failed calls
	slowest time.Duration
}

func newLoad() *load {
	return &load{servers: make(map[string]tally)}
}

// run makes rate calls a second until ctx ends.
func (l *load) run(ctx context.Context, client greeterv1.GreeterServiceClient, rate int) {
	l.client = client
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()

		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// The call does not end with ctx: calls under way finish by
				// themselves.
				l.done.Go(func() { l.call(context.WithoutCancel(ctx)) })
			}
		}
	})
}

func (l *load) call(ctx context.Context) {
	start := time.Now()
	reply, err := l.client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "demo"})
	took := time.Since(start)

	l.mu.Lock()
	defer l.mu.Unlock()

	if err != nil {
		l.total.failed++
		l.lastErr = err

		return
	}

	l.total.answered++
	l.total.slowest = max(l.total.slowest, took)
	server := l.servers[reply.GetServer()]
	server.answered++
	l.servers[reply.GetServer()] = server
}

// snapshot returns the counts so far, by server and in total, and the last
// error of a call.
func (l *load) snapshot() (servers map[string]tally, total tally, lastErr error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return maps.Clone(l.servers), l.total, l.lastErr
}

// attempt is one attempt of a call. addr is the address of the server that the
// attempt has reached, "" before that.
type attempt struct{ addr string }

type attemptKey struct{}

// TagRPC begins an attempt.
func (l *load) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, attemptKey{}, &attempt{})
}

// HandleRPC counts the attempts that end with an error.
func (l *load) HandleRPC(ctx context.Context, event stats.RPCStats) {
	try := ctx.Value(attemptKey{}).(*attempt) // from TagRPC
	l.mu.Lock()
	defer l.mu.Unlock()

	switch event := event.(type) {
	case *stats.OutHeader:
		try.addr = event.RemoteAddr.String()
	case *stats.End:
		if event.Error != nil {
			l.total.broken++
			server := l.servers[try.addr]
			server.broken++
			l.servers[try.addr] = server
		}
	}
}

// TagConn and HandleConn complete stats.Handler: connections are not counted.
func (l *load) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

// HandleConn ignores connections.
func (l *load) HandleConn(context.Context, stats.ConnStats) {}
