// Command xdsload measures etcdrpc xds, as a process of its own on a real etcd: how soon clients have what changes, and what
// many services and clients take of memory and processor.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const (
	listen = "127.0.0.1:18100"
	page   = "127.0.0.1:18101"
)

func main() {
	changes := flag.Int("changes", 200, "how many changes to time")
	idle := flag.Duration("idle", 20*time.Second, "how long to watch the processor while nothing happens")
	flag.Parse()
	if err := run(*changes, *idle); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(changes int, idle time.Duration) error {
	dir, err := os.MkdirTemp("", "xdsload")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "etcdrpc")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = "../cmd/etcdrpc"
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcdrpc: %w\n%s", err, out)
	}
	etcd, err := etcdtest.New(dir)
	if err != nil {
		return err
	}
	defer etcd.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints()})
	if err != nil {
		return err
	}
	defer client.Close()
	l := &load{binary: binary, etcd: client, endpoints: strings.Join(etcd.Endpoints(), ",")}
	if err := l.latency(changes); err != nil {
		return err
	}
	return l.size(idle)
}

// load is what the measurements share.
type load struct {
	binary, endpoints string
	etcd              *clientv3.Client
}

// bridge is a running etcdrpc xds.
type bridge struct{ cmd *exec.Cmd }

func (l *load) start(services []string) (*bridge, error) {
	args := []string{"xds", "--endpoints", l.endpoints, "--listen", listen, "--http", page}
	for _, s := range services {
		args = append(args, "--service", s)
	}
	b := &bridge{exec.Command(l.binary, args...)}
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		resp, err := http.Get("http://" + page + "/healthz")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return b, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("etcdrpc xds does not answer")
}

func (b *bridge) stop() {
	_ = b.cmd.Process.Signal(os.Interrupt)
	_ = b.cmd.Wait()
}

// memory returns the resident memory, and its greatest size, in MiB.
func (b *bridge) memory() (now, most int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "VmRSS:" || fields[0] == "VmHWM:") {
			kib, _ := strconv.Atoi(fields[1])
			if fields[0] == "VmRSS:" {
				now = kib >> 10
			} else {
				most = kib >> 10
			}
		}
	}
	return now, most
}

// ticks returns the processor time used, in hundredths of a second.
func (b *bridge) ticks() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// put writes endpoint n of a service.
func (l *load) put(service string, n, port int) error {
	key := fmt.Sprintf("%s/e%04d", service, n)
	_, err := l.etcd.Put(context.Background(), key, fmt.Sprintf(`{"Addr":"10.1.%d.%d:%d"}`, n/250, n%250, port))
	return err
}

// native is a connection of the runtime, which shows that it has a change by dialing the new address.
type native struct {
	mu    sync.Mutex
	at    map[string]time.Time // by the port, with its colon
	dials chan struct{}        // holds one after a dial
}

func (l *load) native() (*native, func(), error) {
	n := &native{at: make(map[string]time.Time), dials: make(chan struct{}, 1)}
	registry := runtime.NewRegistry(l.etcd, runtime.WithLogger(slog.New(slog.DiscardHandler)))
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "big", Key: "big"}, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) {
			n.mu.Lock()
			n.at[addr[strings.LastIndex(addr, ":"):]] = time.Now()
			n.mu.Unlock()
			select {
			case n.dials <- struct{}{}:
			default:
			}
			return nil, errors.New("nobody is there")
		}))
	if err != nil {
		return nil, nil, err
	}
	conn.Connect()
	return n, func() { registry.Close(context.Background()) }, nil
}

// dialed returns when an address with a port was dialed last.
func (n *native) dialed(port string) time.Time {
	for {
		n.mu.Lock()
		at, ok := n.at[port]
		n.mu.Unlock()
		if ok {
			return at
		}
		<-n.dials
	}
}

// latency times changes of a service with 1,000 endpoints and 100 clients, and beside them those of a native client.
func (l *load) latency(changes int) error {
	const endpoints, clients = 1000, 100
	for n := range endpoints {
		if err := l.put("big", n, 9000); err != nil {
			return err
		}
	}
	b, err := l.start([]string{"big"})
	if err != nil {
		return err
	}
	defer b.stop()
	native, stop, err := l.native()
	if err != nil {
		return err
	}
	defer stop()
	var acked sync.WaitGroup
	var last atomic.Int64
	all := make([]*client, clients)
	acked.Add(clients)
	for i := range all {
		c, err := dial(fmt.Sprint("c", i), []string{"big"})
		if err != nil {
			return err
		}
		defer c.close()
		all[i] = c
		c.onLoad = func(now time.Time) {
			for old := last.Load(); now.UnixNano() > old && !last.CompareAndSwap(old, now.UnixNano()); old = last.Load() {
			}
			acked.Done()
		}
		go c.run()
	}
	acked.Wait()
	var bridged, natives []time.Duration
	for i := range changes {
		time.Sleep(time.Duration(50+rand.IntN(50)) * time.Millisecond)
		acked.Add(clients)
		began := time.Now()
		if err := l.put("big", i%endpoints, 10_000+i); err != nil {
			return err
		}
		acked.Wait()
		bridged = append(bridged, time.Duration(last.Load()-began.UnixNano()))
		natives = append(natives, native.dialed(fmt.Sprint(":", 10_000+i)).Sub(began))
	}
	slices.Sort(bridged)
	slices.Sort(natives)
	at := func(all []time.Duration, percent int) time.Duration {
		return all[min(len(all)-1, len(all)*percent/100)].Round(10 * time.Microsecond)
	}
	fmt.Printf("%d changes, %d endpoints, %d clients: to the last client's acknowledgement p50 %v, p99 %v, most %v; to a native client p50 %v, p99 %v: %.1f times\n",
		changes, endpoints, clients, at(bridged, 50), at(bridged, 99), bridged[len(bridged)-1].Round(10*time.Microsecond),
		at(natives, 50), at(natives, 99), float64(at(bridged, 50))/float64(at(natives, 50)))
	return nil
}

// size measures 1,000 services of 10 endpoints with 1,000 clients, each of 5 services.
func (l *load) size(idle time.Duration) error {
	const services, clients, each = 1000, 1000, 5
	names := make([]string, services)
	for s := range names {
		names[s] = fmt.Sprintf("svc%04d", s)
		for n := range 10 {
			if err := l.put(names[s], n, 9000); err != nil {
				return err
			}
		}
	}
	b, err := l.start(names)
	if err != nil {
		return err
	}
	defer b.stop()
	var answers, begun atomic.Int64
	began := time.Now()
	for i := range clients {
		var asks []string
		for n := range each {
			asks = append(asks, names[(i*each+n)%services])
		}
		c, err := dial(fmt.Sprint("c", i), asks)
		if err != nil {
			return err
		}
		defer c.close()
		c.onLoad = func(time.Time) { answers.Add(1) }
		c.onFirst = func() { begun.Add(1) }
		go c.run()
	}
	for begun.Load() < clients {
		if time.Since(began) > time.Minute {
			return fmt.Errorf("%d of %d clients were told all within a minute", begun.Load(), clients)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(began)
	time.Sleep(5 * time.Second)
	ticks := b.ticks()
	time.Sleep(idle)
	cpu := float64(b.ticks()-ticks) / idle.Seconds() // hundredths of a second in a second: percent
	now, most := b.memory()
	before := answers.Load()
	if err := l.put(names[0], 0, 9999); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	fmt.Printf("%d services of 10 endpoints, %d clients of %d: all told after %v, %d MiB (at most %d), %.1f %% of a processor while nothing happens; a change of one service is sent to %d clients, of which %d ask for it\n",
		services, clients, each, took.Round(10*time.Millisecond), now, most, cpu, answers.Load()-before, clients*each/services)
	return nil
}
