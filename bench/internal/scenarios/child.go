package scenarios

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/keepalive"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// childFlag makes a program one of the measured processes.
const childFlag = "-child"

// IsChild reports whether a program was started, with these arguments, to be a measured process.
func IsChild(args []string) bool { return len(args) == 3 && args[1] == childFlag }

// What a child reports of what did not come, or did not come to its end.
const (
	never    = results.Never
	cutShort = results.CutShort
)

// patience is how long a child may take to get ready.
const patience = 30 * time.Second

// params tell a child what to do.
type params struct {
	Role      string // of roles
	Peer      string
	Endpoints []string      // of etcd
	Key       string        // of the service
	Size      int           // endpoints at first
	Final     int           // endpoints at the end
	Conns     int           // connections, or callers on one
	Limit     time.Duration // of what is measured
	Backends  []string      // addresses that static goes to
	Changes   int           // how many will be made
	Peers     []string      // who take turns, in other programs, too
	Turns     int           // of each of them
	First     int           // which of them begins
	Dir       string        // etcd's
	Proxied   bool          // grpc-proxy stands before etcd
}

// roles are what a child can be. Each returns what it has measured.
var roles = map[string]func(*child) (map[string]float64, error){
	"arrivals":  childArrivals,
	"sequence":  childSequence,
	"follow":    childFollow,
	"cold":      childCold,
	"rest":      childRest,
	"conns":     childConns,
	"register":  childRegister,
	"rpc":       childRPC,
	"connect":   childConnect,
	"slow":      childSlow,
	"recover":   childRecover,
	"away":      childAway,
	"grow":      childGrow,
	"processes": childProcesses,
	"etcd":      childEtcd,
	"backends":  childBackends,
	"calls":     childCalls,
	"joins":     childJoins,
}

// child is a measured process, seen from inside.
type child struct {
	params
	in       *bufio.Reader
	profiled bool
}

// RunChild is main of a child, of which IsChild reports true. Only go-zero's have z. A child speaks with the parent by
// lines: a word of its own on standard output, then an empty line from the parent on standard input, and a JSON object
// at the end.
func RunChild(args []string, z GoZero) error {
	goZero = z
	c := &child{in: bufio.NewReader(os.Stdin)}
	if err := json.Unmarshal([]byte(args[2]), &c.params); err != nil {
		return err
	}
	if c.Peer != peerGoZero {
		// go-zero's has gRPC write every state as JSON, to throw it away. That is a cost of its users alone.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
	if c.Peer == peerGoZero && z == nil {
		return fmt.Errorf("%s, %s: this program does not link it", c.Role, c.Peer)
	}
	role, ok := roles[c.Role]
	if !ok {
		return fmt.Errorf("no role %q: want one of %q", c.Role, slices.Sorted(maps.Keys(roles)))
	}
	values, err := role(c)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.Role, c.Peer, err)
	}
	pprof.StopCPUProfile()
	return json.NewEncoder(os.Stdout).Encode(values)
}

// meet tells the parent how far the child is, and waits for the parent to be as far.
func (c *child) meet(word string) error {
	if err := c.profile(); err != nil {
		return err
	}
	fmt.Println(word)
	_, err := c.in.ReadString('\n')
	return err
}

// answer tells the parent a word, and answers each line from then on with a line of JSON.
func (c *child) answer(word string, what func() (any, error)) error {
	for {
		if err := c.meet(word); err != nil {
			return err
		}
		v, err := what()
		if err != nil {
			return err
		}
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		word = string(text)
	}
}

// profile writes a CPU profile of what the child does from its first meeting on to the directory that BENCH_PROFILE
// names, if it names one. Of the runs of one peer in one role, the last is kept.
func (c *child) profile() error {
	dir := os.Getenv("BENCH_PROFILE")
	if dir == "" || c.profiled {
		return nil
	}
	c.profiled = true
	out, err := os.Create(filepath.Join(dir, report.Slug(c.Role+"-"+c.Peer)+".pprof"))
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(out)
}

// warmOpener returns the opener of connections by an etcd client that is connected already.
func (c *child) warmOpener() (opener, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	if err := warm(c.Peer, client); err != nil {
		return nil, err
	}
	return openerOf(c.Peer, c.Key, client)
}

// client makes an etcd client as the documents of etcd would.
func (c *child) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   c.Endpoints,
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		},
	})
}

// usage is what a process has used so far.
type usage struct {
	cpu       time.Duration // user and system
	allocated uint64        // bytes, ever
	mallocs   uint64
	at        time.Time
}

func used() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // cannot fail for oneself
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{
		cpu:       time.Duration(r.Utime.Nano() + r.Stime.Nano()),
		allocated: m.TotalAlloc, mallocs: m.Mallocs, at: time.Now(),
	}
}

// ms and us are a time in milliseconds and microseconds, as results have it.
func ms(d time.Duration) float64 { return float64(d) / 1e6 }
func us(d time.Duration) float64 { return float64(d) / 1e3 }

// live is how much the heap holds, in bytes.
func live() float64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// settle waits until the number of goroutines stays the same for a while.
func settle() {
	last, since := runtime.NumGoroutine(), time.Now()
	for began := time.Now(); time.Since(began) < 5*time.Second && time.Since(since) < 300*time.Millisecond; {
		time.Sleep(20 * time.Millisecond)
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
	}
}
