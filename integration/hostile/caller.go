package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection" // for a config to name it
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// callerEnv holds the orders of a caller, as JSON. A process that finds it set is a caller.
const callerEnv = "HOSTILE_CALLER"

const (
	callPeriod  = 20 * time.Millisecond // between two calls to a service
	callTimeout = 5 * time.Second
)

// orders are what a caller is told.
type orders struct {
	Own       int      // MiB to keep in use besides
	Etcd      string   // its address
	Services  []string // the keys of the honest services
	Hostile   string   // the key of the hostile one
	Policy    string   // the load balancing policy for the hostile one, as JSON
	Elected   bool     // the calls of the hostile one go to its leader
	Snapshots string   // the snapshot directory
	DNS       string   // a name server instead of the machine's; "" for none
}

// A Visit is an instance of an honest service that comes and goes.
type Visit struct{ Key, Addr string }

// Counts are what a caller has done and logged since it was last asked.
type Counts struct {
	Calls, Failed int
	FirstErr      string
	Lines         int      // of the log
	Sample        []string // some of the lines
}

// caller is the process that is to go on undisturbed.
type caller struct {
	orders   orders
	registry *runtime.Registry
	clients  map[string]basic.GreeterClient // of the honest services
	ready    chan struct{}                  // closed once a call to each of them has succeeded

	mu      sync.Mutex
	counts  Counts
	waiting map[string]bool // the honest services that have not answered yet
}

// remote is what the caller's parent may call, over the caller's standard input and output. Package rpc wants an argument and
// an answer of each method.
type remote struct{ c *caller }

// Ready returns once a call to each honest service has succeeded.
func (r remote) Ready(within time.Duration, _ *bool) error {
	select {
	case <-r.c.ready:
		return nil
	case <-time.After(within):
		return fmt.Errorf("not every service has answered in %v", within)
	}
}

// Count returns the counts, which begin anew.
func (r remote) Count(_ bool, answer *Counts) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	*answer, r.c.counts = r.c.counts, Counts{}
	return nil
}

// Reach returns once the caller knows an instance, and a call to it has succeeded.
func (r remote) Reach(v Visit, _ *bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), visitTimeout)
	defer cancel()
	r.c.await(ctx, v, true)
	for n := range ticks(ctx, 10*time.Millisecond) {
		if callOnce(runtime.WithTarget(ctx, v.Addr), n, r.c.clients[v.Key]) == nil {
			return nil
		}
	}
	return ctx.Err()
}

// Lose returns once the caller does not know an instance any more.
func (r remote) Lose(v Visit, _ *bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), visitTimeout)
	defer cancel()
	r.c.await(ctx, v, false)
	return ctx.Err()
}

// await returns once the caller knows an instance, or does not.
func (c *caller) await(ctx context.Context, v Visit, known bool) {
	for set, err := range c.registry.Watch(ctx, v.Key) {
		if err == nil && known == slices.ContainsFunc(set, func(e runtime.Endpoint) bool { return e.Addr == v.Addr }) {
			return
		}
	}
}

// pipe is the way between a caller and its parent.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// runCaller runs a caller until its standard input ends.
func runCaller(text string) error {
	c := &caller{waiting: make(map[string]bool), clients: make(map[string]basic.GreeterClient), ready: make(chan struct{})}
	if err := json.Unmarshal([]byte(text), &c.orders); err != nil {
		return err
	}
	own := bytes.Repeat([]byte{1}, c.orders.Own<<20)
	defer goruntime.KeepAlive(own)
	go litter()
	if c.orders.DNS != "" {
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "udp", c.orders.DNS)
		}}
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: []string{c.orders.Etcd}, Username: userCaller, Password: password, DialTimeout: 10 * time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		return err
	}
	defer etcd.Close()
	c.registry = runtime.NewRegistry(etcd, runtime.WithLogger(slog.New(slog.NewTextHandler(c, nil))),
		runtime.WithSnapshotDir(c.orders.Snapshots), runtime.WithZone("a"))
	parent := rpc.NewServer()
	if err := parent.RegisterName("caller", remote{c}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	if err = c.begin(ctx); err == nil {
		parent.ServeConn(pipe{os.Stdin, os.Stdout})
	}
	stop()
	return errors.Join(err, c.registry.Close(context.Background()))
}

// litter allocates as a program at work does, so that the heap fills up to the collector's goal in any phase. Without it, the
// first phase to allocate more would be charged with the room that every phase may use.
func litter() {
	const (
		rate  = 32 << 20 // bytes a second
		piece = 16 << 10
	)
	var last []byte
	for range ticks(context.Background(), 10*time.Millisecond) {
		for range rate / 100 / piece {
			last = bytes.Repeat([]byte{1}, piece)
		}
	}
	goruntime.KeepAlive(last)
}

// begin starts the calls, which end with ctx.
func (c *caller) begin(ctx context.Context) (err error) {
	for i, key := range c.orders.Services {
		if c.clients[key], err = c.dial(key, honestPolicies[i%len(honestPolicies)], nil); err != nil {
			return err
		}
		c.waiting[key] = true
	}
	for key, client := range c.clients {
		go c.call(ctx, key, client)
	}
	var leader []string
	if c.orders.Elected {
		leader = elected
	}
	client, err := c.dial(c.orders.Hostile, c.orders.Policy, leader)
	if err != nil {
		return err
	}
	go func() {
		for n := range ticks(ctx, callPeriod) {
			_ = callOnce(runtime.WithLane(ctx, laneOf(n)), n, client) // whether it succeeds is its own affair
		}
	}()
	return nil
}

func (c *caller) dial(key, policy string, leader []string) (basic.GreeterClient, error) {
	desc := basic.Greeter_EtcdServiceDesc
	desc.Leader = leader
	desc.Key, desc.ServiceConfig = key, `{"loadBalancingConfig":[`+policy+`]}`
	conn, err := c.registry.NewClient(&desc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return basic.NewGreeterClient(conn), nil
}

// call calls an honest service at a steady rate.
func (c *caller) call(ctx context.Context, key string, client basic.GreeterClient) {
	for n := range ticks(ctx, callPeriod) {
		began := time.Now()
		err := callOnce(ctx, n, client)
		if ctx.Err() != nil {
			return
		}
		c.note(key, time.Since(began), err)
	}
}

func callOnce(ctx context.Context, n int, client basic.GreeterClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := client.SayHello(runtime.WithAffinity(ctx, strconv.Itoa(n)), &basic.HelloRequest{})
	return err
}

func (c *caller) note(key string, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Calls++
	if err == nil {
		if c.waiting[key] {
			delete(c.waiting, key)
			if len(c.waiting) == 0 {
				close(c.ready)
			}
		}
		return
	}
	c.counts.Failed++
	if c.counts.FirstErr == "" {
		c.counts.FirstErr = fmt.Sprintf("%s after %v: %v", key, took.Round(time.Millisecond), err)
	}
}

// Write counts the lines that the registry logs.
func (c *caller) Write(line []byte) (int, error) {
	const samples, length = 20, 400
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Lines++
	if len(c.counts.Sample) < samples {
		c.counts.Sample = append(c.counts.Sample, strings.TrimSpace(string(line[:min(len(line), length)])))
	}
	return len(line), nil
}

// ticks yields a number each period until ctx ends.
func ticks(ctx context.Context, period time.Duration) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for n := 0; ; n++ {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			if !yield(n) {
				return
			}
		}
	}
}

// honestPolicies are shared out among the honest services.
var honestPolicies = []string{
	`{"round_robin":{}}`,
	`{"least_request_experimental":{"choiceCount":2}}`,
	`{"etcd_weighted":{}}`,
	`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
	`{"outlier_detection_experimental":{"successRateEjection":{},"childPolicy":[{"round_robin":{}}]}}`,
	`{"etcd":{"preferZone":true,"childPolicy":[{"round_robin":{}}]}}`,
}
