package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	Snapshots string   // the snapshot directory
	DNS       string   // a name server instead of the machine's; "" for none
}

// A message is a line of a caller's standard output.
type message struct {
	Ready  bool    `json:",omitempty"` // a call to each honest service has succeeded
	Change *change `json:",omitempty"`
	Counts *counts `json:",omitempty"` // the answer to a line of standard input
}

// change is news of an instance of an honest service.
type change struct {
	Addr string
	Now  state
}

// state is how a caller has an instance.
type state string

const (
	reached state = "reached" // a call to it has succeeded
	gone    state = "gone"
)

// counts are what a caller has done and logged since it was last asked.
type counts struct {
	Calls, Failed int
	FirstErr      string
	Lines         int      // of the log
	Sample        []string // some of the lines
}

// caller is the process that is to go on undisturbed.
type caller struct {
	orders   orders
	registry *runtime.Registry
	out      struct {
		sync.Mutex
		*json.Encoder
	}

	mu      sync.Mutex
	counts  counts
	waiting map[string]bool // the honest services that have not answered yet
}

// runCaller runs a caller until its standard input ends.
func runCaller(text string) error {
	c := &caller{waiting: make(map[string]bool)}
	if err := json.Unmarshal([]byte(text), &c.orders); err != nil {
		return err
	}
	own := bytes.Repeat([]byte{1}, c.orders.Own<<20)
	defer goruntime.KeepAlive(own)
	go litter()
	c.out.Encoder = json.NewEncoder(os.Stdout)
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
	ctx, stop := context.WithCancel(context.Background())
	err = errors.Join(c.begin(ctx), c.answer(os.Stdin))
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

// begin starts the calls and the watches, which end with ctx.
func (c *caller) begin(ctx context.Context) error {
	for i, key := range c.orders.Services {
		client, err := c.dial(key, honestPolicies[i%len(honestPolicies)])
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.waiting[key] = true
		c.mu.Unlock()
		go c.call(ctx, key, client)
		go c.watch(ctx, key, client)
	}
	client, err := c.dial(c.orders.Hostile, c.orders.Policy)
	if err != nil {
		return err
	}
	go c.callHostile(ctx, client)
	return nil
}

func (c *caller) dial(key, policy string) (basic.GreeterClient, error) {
	desc := basic.Greeter_EtcdServiceDesc
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
				c.send(message{Ready: true})
			}
		}
		return
	}
	c.counts.Failed++
	if c.counts.FirstErr == "" {
		c.counts.FirstErr = fmt.Sprintf("%s after %v: %v", key, took.Round(time.Millisecond), err)
	}
}

// callHostile calls the hostile service at the same rate. Whether the calls succeed is its own affair.
func (c *caller) callHostile(ctx context.Context, client basic.GreeterClient) {
	for n := range ticks(ctx, callPeriod) {
		_ = callOnce(ctx, n, client)
	}
}

// watch reports the instances of an honest service that come and go, and calls those that come.
func (c *caller) watch(ctx context.Context, key string, client basic.GreeterClient) {
	var before []string
	for set, err := range c.registry.Watch(ctx, key) {
		if err != nil {
			continue // the log has it
		}
		var addrs []string
		for _, endpoint := range set {
			addrs = append(addrs, endpoint.Addr)
		}
		for _, addr := range addrs {
			if before != nil && !slices.Contains(before, addr) {
				go c.reach(ctx, addr, client)
			}
		}
		for _, addr := range before {
			if !slices.Contains(addrs, addr) {
				c.report(addr, gone)
			}
		}
		before = addrs
	}
}

// reach calls an instance until it answers.
func (c *caller) reach(ctx context.Context, addr string, client basic.GreeterClient) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for n := range ticks(ctx, 10*time.Millisecond) {
		if callOnce(runtime.WithTarget(ctx, addr), n, client) == nil {
			c.report(addr, reached)
			return
		}
	}
}

func (c *caller) report(addr string, now state) {
	c.send(message{Change: &change{Addr: addr, Now: now}})
}

// answer sends the counts for each line of in, and returns when that ends.
func (c *caller) answer(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		c.mu.Lock()
		answer := c.counts
		c.counts = counts{}
		c.mu.Unlock()
		c.send(message{Counts: &answer})
	}
	return lines.Err()
}

func (c *caller) send(m message) {
	c.out.Lock()
	defer c.out.Unlock()
	_ = c.out.Encode(m) // else nobody is there to hear it
}

// Write counts the lines that the registry logs.
func (c *caller) Write(line []byte) (int, error) {
	const samples, length = 20, 400
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Lines++
	if len(c.counts.Sample) < samples {
		c.counts.Sample = append(c.counts.Sample, strings.TrimSpace(string(line[:min(len(line), length)]))+"\n")
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
