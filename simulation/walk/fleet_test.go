package walk

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/harness"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

const (
	// processes is the number of processes, which register under keys keys.
	// Each process follows the number followed of these keys.
	processes, keys, followed = 100, 10, 2

	// A process with plain code, which uses only etcd's client, opens a stream
	// of watches and one of renewals when it starts. It lists and watches each
	// key, and grants, uses and renews a lease. With a password, it logs in
	// once for itself and once for each stream. After a fault it needs fewer
	// requests.
	plainStreams, plainLogins, plainRequests = 2, 3, 5 + 2*followed

	// slack is a factor, allowed once for the start and once for the fault. A
	// process may make slack times the requests of plain code. All views must
	// be current after slack times the time that etcd needs for plain code's
	// requests.
	slack = 4

	// proofEvery is how often a process may verify its knowledge.
	proofEvery = 10 * time.Second
)

// TestFleet runs one fleet for each 50 schedules of the flags, or four fleets
// for each minute. It finds processes that keep a slow etcd slow. If processes
// give up requests and repeat them while etcd still works on the first ones,
// etcd may never catch up.
func TestFleet(t *testing.T) {
	skipUnlessAsked(t)

	seed := firstSeed()
	for range max((*seeds+49)/50, int(4**minutes)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			defer exitIfHanging(seed)()

			f := newFleet(seed)
			t.Logf("cd simulation && go test -run TestFleet ./walk -seeds 1 -first %d # %+v", seed,
				f.choices)
			etcd.Bubble(t, f.run)
		})

		seed++
	}
}

// fleet is a number of processes that use one etcd.
type fleet struct {
	choices
	net  *network.Network
	etcd *etcd.Cluster
	seen [processes * followed]atomic.Int64 // the number of endpoints that a process knows of a key
	lost atomic.Int64                       // the number of entries that etcd deleted
}

// choices are made by a seed.
type choices struct {
	request time.Duration // the time that etcd needs for a request
	login   time.Duration // the time that etcd needs for a login; 0: without passwords
	work    time.Duration // the time that etcd needs for the requests of plain code
	ttl     time.Duration // of leases
	spread  time.Duration // from the first start of a process to the last, if positive

	fault     string
	at, lasts time.Duration // time and duration of the fault
}

func newFleet(seed uint64) *fleet {
	r := rand.New(rand.NewPCG(seed, 0))
	upTo := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }

	p := choices{
		request: upTo(30*time.Second) / (processes * plainRequests),
		spread:  upTo(20*time.Second) - 10*time.Second,
		fault:   []string{"cut", "stop", "hang"}[r.IntN(3)],
	}

	if r.IntN(3) == 0 {
		p.login = 60 * time.Millisecond
		p.request /= 3
	}

	p.work = processes * (plainRequests*p.request + plainLogins*p.login)
	p.ttl = max(15*time.Second, slack*p.work).Truncate(time.Second)
	p.at = upTo(slack * p.work)
	p.lasts = upTo(p.ttl / 6)

	return &fleet{choices: p}
}

func (f *fleet) run(t *testing.T) {
	f.startEtcd(t)

	var all sync.WaitGroup
	t.Cleanup(func() {
		f.etcd.Queue(0, 0)
		all.Wait()
		must.Succeed(t, f.etcd.Close())
	})

	for i := range processes {
		all.Go(func() {
			time.Sleep(f.spread * time.Duration(i) / processes)
			f.process(t.Context(), i)
		})
	}

	all.Go(func() { f.fail(t) })

	// gRPC waits before it connects again
	settled := f.at + f.lasts + 2*slack*f.work + 10*time.Second
	for took := time.Second; took < settled+time.Minute; took += time.Second {
		time.Sleep(time.Second)
		f.judge(t, took, took > settled)
	}
}

// startEtcd starts etcd and its queue.
func (f *fleet) startEtcd(t *testing.T) {
	f.net = network.New()
	cluster, err := etcd.New(f.net, etcdAddrs, 2*f.work)
	must.Succeed(t, err)
	f.etcd = cluster

	if f.login > 0 {
		must.Succeed(t, cluster.Protect(etcd.User{Name: "root", Password: "root"}))
	}

	cluster.OnCommit(func(c *etcd.Change) {
		if c.Delete {
			f.lost.Add(1)
		}
	})

	cluster.Queue(f.request, f.login)
}

// process runs a process until ctx ends.
func (f *fleet) process(ctx context.Context, i int) {
	host := fmt.Sprintf("10.1.0.%d", i)
	config := harness.ClientConfig(etcdAddrs, grpc.WithContextDialer(f.net.Dialer(host)))
	if f.login > 0 {
		config.Username = "root"
		config.Password = "root"
		config.DialTimeout = time.Hour
	}

	client := harness.Connect(config)
	defer client.Close()

	registry := runtime.NewRegistry(client, runtime.WithLeaseTTL(f.ttl),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))
	defer registry.Close(ctx)

	for k := range followed {
		go func() {
			for endpoints, err := range registry.Watch(ctx, fleetKey(i+k)) {
				if err == nil {
					f.seen[i*followed+k].Store(int64(len(endpoints)))
				}
			}
		}()
	}

	// if Register fails, views stay behind, which judge reports
	_, _ = registry.Register(ctx, fleetKey(i), runtime.Endpoint{Addr: host + ":80"})
	<-ctx.Done()
}

func fleetKey(i int) string {
	return fmt.Sprintf("service-%d", i%keys)
}

// fail makes etcd or its connections fail, and adds an endpoint to each key.
func (f *fleet) fail(t *testing.T) {
	time.Sleep(f.at)

	switch f.fault {
	case "cut":
		f.net.Crash("10.0.0.2")
	case "stop":
		f.etcd.Stop(0)
		time.Sleep(f.lasts)
		must.Succeed(t, f.etcd.Start(0))

	case "hang":
		f.etcd.Hang(0, f.lasts)
	}

	for i := range keys {
		must.Succeed(t, f.etcd.Put(fleetKey(i)+"/more", `{"Addr":"10.1.1.1:80"}`, 0))
	}
}

// judge checks what etcd has served and deleted, and, if settled, that all
// views have all endpoints.
func (f *fleet) judge(t *testing.T, took time.Duration, settled bool) {
	behind := 0
	for i := range f.seen {
		if settled && f.seen[i].Load() <= processes/keys {
			behind++
		}
	}

	const both = 2 * slack * processes
	const mostStreams = both * plainStreams
	most := both*(plainRequests+plainLogins) + processes*int(3*took/f.ttl+took/proofEvery)

	lost := f.lost.Load()
	requests, streams := f.etcd.Served()
	if behind > 0 || lost > 0 || requests > most || streams > mostStreams {
		t.Fatalf("%d views are behind, %d entries were lost, and etcd served %d requests and opened %d streams; want at most 0, 0, %d and %d",
			behind, lost, requests, streams, most, mostStreams)
	}
}
