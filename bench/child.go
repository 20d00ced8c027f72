package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
)

// GoZero is the interface to go-zero. Only the program cmd/gozero implements it, because go-zero samples the machine's load in every
// process that links it.
type GoZero interface {
	// Builder returns a builder of resolvers that find all endpoints. Its etcd client is connected.
	Builder(etcd []string) (resolver.Builder, error)
	// Dial connects as go-zero's users do.
	Dial(etcd []string, key string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
}

// goZero is nil except in processes that measure go-zero.
var goZero GoZero

// roles maps names to the functions of a child, which return its figures.
var roles = map[string]func(*child) (figures, error){
	"change":   childChange,
	"sequence": childSequence,
	"rollout":  childRollout,
	"cold":     childCold,
	"conns":    childConns,
	"rpc":      childRPC,
	"slow":     childSlow,
	"backends": childBackends,
	"calls":    childCalls,
	"rest":     childRest,
}

// child is a measured process, seen from inside. Its parent sees a proc.
type child struct {
	params
	in *bufio.Reader
}

// Child reports whether this process was started to be measured. If so, Child does the measurement before it returns.
func Child(z GoZero) (bool, error) {
	arg, ok := os.LookupEnv(childEnv)
	if !ok {
		return false, nil
	}
	goZero = z
	c := &child{in: bufio.NewReader(os.Stdin)}
	if err := json.Unmarshal([]byte(arg), &c.params); err != nil {
		return true, err
	}
	if c.Peer != peerGoZero {
		// This logger makes gRPC skip the JSON of every state. go-zero's logger does not, at its users' cost.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
	values, err := roles[c.Role](c)
	if err != nil {
		return true, fmt.Errorf("%s of %s: %w", c.Role, c.Peer, err)
	}
	return true, say(values)
}

// say sends v to the parent.
func say(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// meet sends v to the parent and waits until the parent lets the child continue.
func (c *child) meet(v any) error {
	if err := say(v); err != nil {
		return err
	}
	_, err := c.in.ReadString('\n')
	return err
}

// client returns a connected etcd client, with the settings of etcd's documentation.
func (c *child) client() (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   c.Etcd,
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		},
	})
	if err != nil {
		return nil, err
	}
	_, err = client.Get(client.Ctx(), "bench/warm/")
	return client, err
}

// within waits for a value of a channel, for half of patience.
func within(arrived <-chan time.Time) (time.Time, error) {
	select {
	case at := <-arrived:
		return at, nil
	case <-time.After(patience / 2):
		return time.Time{}, fmt.Errorf("not all endpoints arrived within %v", patience/2)
	}
}

// usage has the resources that a process has used since its start.
type usage struct {
	cpu       time.Duration // user and system
	allocated uint64        // bytes, also those freed since
	mallocs   uint64
	at        time.Time
}

func used() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail with RUSAGE_SELF
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		cpu:       time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		allocated: m.TotalAlloc, mallocs: m.Mallocs, at: time.Now(),
	}
}

// since returns the resources used since start, divided by n operations.
func (start usage) since(n int) figures {
	now := used()
	return figures{
		"ns/op":      float64(now.at.Sub(start.at)) / float64(n),
		"cpu-ns/op":  float64(now.cpu-start.cpu) / float64(n),
		"alloc-B/op": float64(now.allocated-start.allocated) / float64(n),
		"mallocs/op": float64(now.mallocs-start.mallocs) / float64(n),
	}
}

// live returns the size of the live heap in bytes.
func live() float64 {
	runtime.GC()
	runtime.GC() // frees objects that finalizers released in the first cycle
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
