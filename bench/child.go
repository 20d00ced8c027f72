package bench

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
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

// GoZero is the interface to go-zero. Only the program cmd/gozero implements
// it, because go-zero samples the machine's load in every process that links
// it.
type GoZero interface {
	// Builder returns a builder of resolvers that find all endpoints. Its etcd
	// client is connected.
	Builder(etcd []string) (resolver.Builder, error)

	// Dial connects as go-zero's users do.
	Dial(etcd []string, key string, opts ...grpc.DialOption) (*grpc.ClientConn, error)
}

// goZero is nil except in processes that measure go-zero.
var goZero GoZero

// roles maps names to the functions of a child, which return its figures.
var roles = map[string]func(*child) figures{
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

// Child reports whether this process was started to be measured. If so, Child
// first does the measurement, and ends the process if the measurement fails.
func Child(z GoZero) bool {
	arg, ok := os.LookupEnv(childEnv)
	if !ok {
		return false
	}

	goZero = z
	c := &child{in: bufio.NewReader(os.Stdin)}
	must(json.Unmarshal([]byte(arg), &c.params))

	if c.Peer != peerGoZero {
		// With this logger, gRPC does not format every state as JSON. With
		// go-zero's logger it does. go-zero's users bear this cost, so the
		// measurement keeps it.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}

	say(roles[c.Role](c))

	return true
}

// must ends the measured process if err is not nil. The parent then reports
// which process has ended.
func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// valueOf returns v, unless must(err) ends the process.
func valueOf[V any](v V, err error) V {
	must(err)
	return v
}

// say sends v to the parent.
func say(v any) {
	must(json.NewEncoder(os.Stdout).Encode(v))
}

// meet sends v to the parent and waits until the parent lets the child
// continue.
func (c *child) meet(v any) {
	say(v)
	valueOf(c.in.ReadString('\n'))
}

// client returns a connected etcd client, with the settings of etcd's
// documentation.
func (c *child) client() *clientv3.Client {
	client := valueOf(clientv3.New(clientv3.Config{
		Endpoints:   c.Etcd,
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithKeepaliveParams(keepalive.ClientParameters{
				Time:    10 * time.Second,
				Timeout: 3 * time.Second,
			}),
		},
	}))

	valueOf(client.Get(client.Ctx(), "bench/warm/"))

	return client
}

// within returns the next value of a channel. It ends the process if no value
// arrives within half of patience.
func within(arrived <-chan time.Time) time.Time {
	select {
	case at := <-arrived:
		return at
	case <-time.After(patience / 2):
		log.Fatalf("not all endpoints arrived within %v", patience/2)
		panic("unreachable")
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
		allocated: m.TotalAlloc,
		mallocs:   m.Mallocs,
		at:        time.Now(),
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
