package discovery

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loadtest"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection" // registers the policy outlier detection
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// limited holds limits that are small enough for a test to exceed.
var limited = runtime.Limits{Entries: 1000, Bytes: 256 << 10, Connections: 16}

// victim is a process that calls two services, one with hostile keys,
// candidates or live configs.
type victim struct {
	*world
	trap  *trap
	dir   string // of the snapshots of the process
	other *grpc.ClientConn
	load  *loadtest.Caller // calls to the other service
	calls func()           // stops calling the hostile service
}

// cost is what a victim uses of each resource, or a bound of that.
type cost struct {
	heap  int // MiB that Close of the registry frees
	disk  int // MiB of snapshots
	open  int // most simultaneous connections to the trap
	lines int // of the log
}

func (c cost) within(bound cost) bool {
	return c.heap <= bound.heap &&
		c.disk <= bound.disk &&
		c.open <= bound.open &&
		c.lines <= bound.lines
}

// usual bounds the cost of most hostile writes. Each of two clients may have 16
// connections in use, 32 to silent servers, and 16 to servers that it leaves.
// The heap holds both ends of each connection, the client's and the trap's.
var usual = cost{heap: 8, disk: 2, open: 2 * (16 + 32 + 16), lines: 12}

// large bounds the cost of large values. A process keeps few of them, because
// of its limit of bytes.
var large = cost{heap: 3, disk: 2, open: 2 * (16 + 16), lines: 12}

// hostileWays lists hostile series of writes to keys, candidates and live
// configs. For single entries and configs, see
// TestHostileTexts_AreShownHarmlessly, TestBadValues_AreSkipped and package
// serviceconfig; for leases, TestKeyWriterRights.
var hostileWays = []struct {
	name   string
	config string // policy of the victim's own config; "": round robin
	most   cost
	write  func(v *victim)
}{
	{name: "many entries", most: usual, write: func(v *victim) {
		v.fill(2000, v.trap.addr)
	}},
	{name: "servers that say nothing", most: usual, write: func(v *victim) {
		v.trap.silent.Store(true)
		v.fill(500, func(i int) string { return v.entry(i) })

		kit.Eventually(v.t, "more than 60 connections are open", func() bool {
			open, _ := v.trap.opened()
			return open > 60
		})

		v.load.More(500)
	}},
	{name: "large pieces of metadata", most: large, write: func(v *victim) {
		v.fill(80, func(i int) string { return v.entry(i, "m", strings.Repeat("m", 60<<10)) })
	}},
	{name: "small pieces of metadata", most: large, write: func(v *victim) {
		v.fill(80, func(i int) string {
			var pieces []string
			for n := range 1000 {
				pieces = append(pieces, fmt.Sprintf("%06d", i*1000+n), "v")
			}

			return v.entry(i, pieces...)
		})
	}},
	{name: "long lists of methods", most: large, write: func(v *victim) {
		v.fill(300, func(i int) string {
			var methods strings.Builder
			for n := range 800 {
				fmt.Fprintf(&methods, "/acme.S%d/M%d ", i, n)
			}

			return v.entry(i, "grpc_methods", methods.String())
		})
	}},
	{
		name:   "heavy weights on a ring",
		config: `{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
		most:   usual,
		write: func(v *victim) {
			v.fill(1500, func(i int) string { return v.entry(i, "weight", "4294967295") })
		}},
	{name: "values longer than a client takes", most: usual, write: func(v *victim) {
		for i := range 3 {
			v.put(fmt.Sprint(key, "/x", i), v.entry(i, "m", strings.Repeat("m", 1400<<10)))
		}
	}},
	{
		name:   "entries that change all the time",
		config: `{"etcd":{"preferZone":true}}`,
		most:   usual,
		write: func(v *victim) {
			for n := range 20 {
				v.fill(200, func(i int) string {
					switch (n + i) % 5 {
					case 0:
						return v.trap.addr(i) // the layout of a bare address
					case 1:
						return v.entry(i, "grpc_leaving", "true")
					}

					return v.entry(i, "weight", fmt.Sprint(n), "zone", fmt.Sprintf("z%d", n%3))
				})
			}
		}},
	{name: "leases that end", most: usual, write: func(v *victim) {
		for range 20 {
			lease := v.grant()
			v.fill(50, func(i int) string { return v.entry(i) }, clientv3.WithLease(lease))
			_, err := v.etcd.Admin().Revoke(kit.Context(v.t), lease)
			kit.Must(v.t, err)
		}
	}},
	{name: "candidates for the leadership", most: usual, write: func(v *victim) {
		lease := v.grant()
		v.fillUnder(candidate.Prefix(key)+"x", 2000, v.trap.addr, clientv3.WithLease(lease))
		v.fillUnder(candidate.Prefix(key)+"y", 3, func(int) string {
			return strings.Repeat("y", 1400<<10)
		}, clientv3.WithLease(lease))
	}},
	{name: "configs that are wrong", most: usual, write: func(v *victim) {
		wrong := []string{
			policyOf(`{"outlier_detection_experimental":{"interval":"0s","childPolicy":[{"round_robin":{}}]}}`),
			policyOf(`{"Ring_Hash_Experimental":{"minRingSize":8388608,"maxRingSize":8388608}}`),
			policyOf(strings.Repeat(`{"outlier_detection_experimental":{"childPolicy":[`, 4800) +
				`{"round_robin":{}}` + strings.Repeat(`]}}`, 4800)),
			strings.Repeat(`{"a":`, 50_000), `{"loadBalancingConfig":null}`, `null`, `{`,
		}
		for n := range wrong {
			v.put(configKey, wrong[n])

			for i := range 10 {
				v.put(configKey, fmt.Sprintf(`{"unknown%d":true}`, n*10+i))
			}
		}

		kit.Eventually(v.t, "the last config is refused", func() bool {
			return strings.Contains(fmt.Sprint(v.status().ConfigErr), "unknown69")
		})
		v.put(configKey, wrong[0])
		kit.Eventually(v.t, "the large config is refused", func() bool {
			return !strings.Contains(fmt.Sprint(v.status().ConfigErr), "unknown")
		})
	}},
	{name: "the largest split, over entries that change", most: usual, write: func(v *victim) {
		var groups, drained []string
		for i := range 256 {
			groups = append(groups, fmt.Sprintf(
				`{"match":{"version":"v%d","zone":"z%d","a":"","b":"","c":"","d":""},"weight":1}`,
				i, i%7))
		}

		for i := range 1500 {
			drained = append(drained, fmt.Sprintf("%q", v.trap.addr(i)))
		}

		v.put(configKey, policyOf(`{"etcd":{"split":[`+strings.Join(groups, ",")+
			`],"drain":[`+strings.Join(drained, ",")+`],"preferZone":true}}`))
		kit.Eventually(v.t, "the config is in force", func() bool {
			return v.status().ServiceConfig != ""
		})

		for n := range 2 {
			v.fill(1000, func(i int) string {
				return v.entry(i, "version", fmt.Sprintf("v%d", (n+i)%300), "zone",
					fmt.Sprintf("z%d", i%7))
			})
		}
	}},
}

// TestHostileWriters makes each hostile series of writes to a service that a
// process calls. The cost stays within its bound, before and after a restart of
// the process, and calls to the other service succeed.
func TestHostileWriters(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8, which other systems do not route")
	}

	for _, way := range hostileWays {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t, nil)
			lis, err := net.Listen("tcp4", "0.0.0.0:0")
			kit.Must(t, err)
			g := grpc.NewServer()
			basic.RegisterGreeterServer(g, &server{name: "trap"})
			v := &victim{world: w, dir: t.TempDir(), trap: &trap{Listener: lis}}
			kit.Serve(t, g, v.trap)
			v.put(honest, v.serve("first").addr)
			v.put("acme/other/a", v.serve("a").addr)
			v.begin(way.config)
			way.write(v)
			v.put(honest, v.serve("last").addr)
			kit.Eventually(t, "the last entry is followed", func() bool {
				return v.status().Known && v.addr(honest) == *v.get(honest)
			})
			v.end("while the writer writes", way.most)
			v.begin(way.config)
			v.end("after a restart", way.most)
		})
	}
}

// honest is the key of the entry of an honest server. It sorts before the
// hostile keys.
const honest = key + "/a"

// begin starts the process, and returns once it calls the other service and
// knows the endpoints of the hostile service.
func (v *victim) begin(config string) {
	v.t.Helper()

	v.logs = &kit.Logs{}
	v.registry = v.newRegistry(v.etcd.Client(v.t), runtime.WithLimits(limited),
		runtime.WithSnapshotDir(v.dir), runtime.WithZone("z1"))
	v.other = dial(v.t, v.registry, greeterAt("acme/other"))
	reached(v.t, v.other, "a")
	v.load = underLoad(v.t, v.other)
	desc := greeterAt(key)
	desc.Extension = leader.Methods{basic.Greeter_SayHello_FullMethodName}

	var all []*grpc.ClientConn
	for _, desc := range []*runtime.ServiceDesc{greeterAt(key), desc} {
		var opts []grpc.DialOption
		if config != "" {
			opts = append(opts, runtime.WithDefaultServiceConfig(policyOf(config)))
		}

		all = append(all, dial(v.t, v.registry, desc, opts...))
	}

	ctx, cancel := context.WithCancel(context.Background())

	var calling sync.WaitGroup
	for _, conn := range all {
		calling.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				within, cancel := context.WithTimeout(runtime.WithAffinity(ctx, fmt.Sprint(n)),
					20*time.Millisecond)
				_, _ = call(within, conn) // a call may fail, or reach the trap
				cancel()
			}
		})
	}

	v.calls = sync.OnceFunc(func() {
		cancel()
		calling.Wait()
	})

	v.t.Cleanup(v.calls)
	kit.Eventually(v.t, "the service is known", func() bool { return v.status().Known })
}

// end ends the process, and fails the test if a cost exceeds its bound.
func (v *victim) end(when string, bound cost) {
	v.t.Helper()

	v.load.More(100)
	v.put("acme/other/b", v.serve("b").addr)
	reached(v.t, v.other, "a", "b")
	v.load.Stop()
	v.delete("acme/other/b")
	v.calls()
	got := cost{lines: len(v.logs.Lines()), disk: v.disk()}
	_, got.open = v.trap.opened()

	with := v.heap()
	for range 5 { // until values that are being read are freed
		with = min(with, v.heap())
	}

	kit.Must(v.t, v.registry.Close(kit.Context(v.t)))
	kit.Eventually(v.t, "the trap notices the end of the connections", func() bool {
		open, _ := v.trap.opened()
		return open == 0
	})

	got.heap = with - v.heap()
	v.t.Logf("%s: %+v", when, got)

	if !got.within(bound) {
		v.t.Errorf("cost %s: %+v, want at most %+v", when, got, bound)
	}
}

// heap returns the heap in use, in MiB. etcd, which runs in this process, first
// writes its data to disk.
func (v *victim) heap() int {
	v.t.Helper()

	// etcd writes its data first
	_, err := v.etcd.Admin().HashKV(kit.Context(v.t), v.etcd.Endpoints()[0], 0)
	kit.Must(v.t, err)
	goruntime.GC()
	goruntime.GC() // sync.Pool keeps objects for one collection
	var stats goruntime.MemStats
	goruntime.ReadMemStats(&stats)

	return int(stats.HeapAlloc >> 20)
}

// disk returns the size of the snapshots, in MiB.
func (v *victim) disk() int {
	v.t.Helper()

	var size int64

	files, err := os.ReadDir(v.dir)
	kit.Must(v.t, err)

	for _, file := range files {
		info, err := file.Info()
		kit.Must(v.t, err)
		size += info.Size()
	}

	return int(size >> 20)
}

// addr returns the address that the process knows for an entry, or "" if it
// does not know the entry.
func (v *victim) addr(etcdKey string) string {
	for _, e := range v.status().Endpoints {
		if key+"/"+e.Instance == etcdKey {
			return e.Addr
		}
	}

	return ""
}

// entry returns the value of an entry with the nth address of the trap.
// metadata alternates names and texts.
func (v *victim) entry(n int, metadata ...string) string {
	var pairs []string
	for i := 0; i < len(metadata); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%q:%q", metadata[i], metadata[i+1]))
	}

	return fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":{%s}}`, v.trap.addr(n),
		strings.Join(pairs, ","))
}

// fill puts n entries of the hostile service.
func (v *victim) fill(n int, value func(i int) string, opts ...clientv3.OpOption) {
	v.t.Helper()
	v.fillUnder(key+"/x", n, value, opts...)
}

// fillUnder puts n keys that begin with prefix, in transactions small enough
// for etcd.
func (v *victim) fillUnder(
	prefix string,
	n int,
	value func(i int) string,
	opts ...clientv3.OpOption,
) {
	v.t.Helper()

	var ops []clientv3.Op

	bytes := 0
	for i := range n {
		text := value(i)
		bytes += len(text)
		if bytes > 1<<20 {
			v.commit(ops)
			ops = nil
			bytes = len(text)
		}

		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%06d", prefix, i), text, opts...))
	}

	v.commit(ops)
}

// policyOf returns a service config with the given load balancing policy.
func policyOf(text string) string {
	return `{"loadBalancingConfig":[` + text + `]}`
}

// trap is the server behind all hostile addresses: one port on every address of
// 127.0.0.0/8. It counts its connections.
type trap struct {
	net.Listener
	silent atomic.Bool // accept connections, but send nothing
	mu     sync.Mutex  // guards the fields below
	open   int
	most   int // maximum of open
}

// trapped is a connection to a trap.
type trapped struct {
	net.Conn
	closed func()
}

func (t *trap) Accept() (net.Conn, error) {
	for {
		conn, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}

		t.count(1)

		conn = &trapped{conn, sync.OnceFunc(func() { t.count(-1) })}
		if !t.silent.Load() {
			return conn, nil
		}

		go func() {
			_, _ = io.Copy(io.Discard, conn) // until the client closes the connection
			_ = conn.Close()
		}()
	}
}

func (t *trap) count(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.open += n
	t.most = max(t.most, t.open)
}

// opened returns the number of open connections, and its maximum since the
// previous call of opened.
func (t *trap) opened() (open, most int) {
	t.mu.Lock()
	defer t.mu.Unlock()

	open = t.open
	most = t.most
	t.most = open

	return open, most
}

func (c *trapped) Close() error {
	c.closed()
	return c.Conn.Close()
}

// addr returns the nth address of the trap.
func (t *trap) addr(n int) string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+n>>16, n>>8&0xff, n&0xff, t.Addr().(*net.TCPAddr).Port)
}
