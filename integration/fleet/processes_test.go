//go:build unix

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const (
	ttl   = 15 * time.Second // of the entries' leases
	try   = 5 * time.Second  // how long plain code waits for an answer
	retry = time.Second      // between tries
)

// process is one process of a fleet. It follows some keys, and registers an
// entry under the first of them. All processes of a fleet are in the process of
// the test, but each has an etcd client, and with it a connection, of its own.
type process struct {
	cell  *cell
	addr  string
	keys  []string
	views []view // of keys
	stop  func()
}

// side is what the processes of a fleet run until ctx ends.
type side struct {
	name string
	run  func(p *process, ctx context.Context, client *clientv3.Client)
}

var sides = [2]side{{"ours", (*process).ours}, {"plain", (*process).plain}}

// start starts the process, for the first time or again. It stops with the
// test.
func (p *process) start() {
	p.views = make([]view, len(p.keys))
	ctx, cancel := context.WithCancel(p.cell.t.Context())

	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; kit.Pause(ctx, retry) {
			client, err := clientv3.New(p.cell.config) // logs in if there are users
			if err == nil {
				p.cell.side.run(p, ctx, client)
				client.Close()
			}
		}
	})

	p.stop = func() {
		cancel()
		running.Wait()
	}

	p.cell.t.Cleanup(p.stop)
}

// current reports whether the process knows all entries, and the markers since
// the last change.
func (p *process) current() bool {
	for i := range p.views {
		addrs := p.views[i].addrs.Load()
		if addrs == nil || !slices.Contains(*addrs, p.cell.marker) {
			return false
		}

		if len(*addrs) != *processes/len(p.cell.keys)+1 {
			return false
		}
	}

	return true
}

func (p *process) ours(ctx context.Context, client *clientv3.Client) {
	registry := runtime.NewRegistry(client, runtime.WithLeaseTTL(ttl),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))
	for i, key := range p.keys {
		target := resolver.Target{URL: url.URL{Scheme: runtime.Scheme, Path: "/" + key}}
		following, err := registry.Resolver().Build(target, &p.views[i], resolver.BuildOptions{})
		if err != nil {
			panic(err) // the key is wrong
		}
		defer following.Close()
	}

	for ; ctx.Err() == nil; kit.Pause(ctx, retry) { // etcd may refuse
		_, err := registry.Register(ctx, p.keys[0], runtime.Endpoint{Addr: p.addr})
		if err == nil {
			<-ctx.Done()
		}
	}

	ending, cancel := context.WithTimeout(context.Background(), try)
	defer cancel()

	registry.Close(ending) // etcd may be away
}

// plain runs code that a team would write by hand.
func (p *process) plain(ctx context.Context, client *clientv3.Client) {
	var tasks sync.WaitGroup
	defer tasks.Wait()

	for i := range p.keys {
		tasks.Go(func() {
			for ; ctx.Err() == nil; kit.Pause(ctx, retry) {
				follow(ctx, client, p.keys[i]+"/", &p.views[i])
			}
		})
	}

	for ; ctx.Err() == nil; kit.Pause(ctx, retry) {
		register(ctx, client, p.keys[0]+"/"+p.addr, entryOf(p.addr))
	}
}

// follow lists a prefix and watches it, until something fails.
func follow(ctx context.Context, client *clientv3.Client, prefix string, v *view) {
	listing, cancel := context.WithTimeout(ctx, try)
	defer cancel()

	list, err := client.Get(listing, prefix, clientv3.WithPrefix())
	if err != nil {
		return
	}

	known := map[string]string{}
	for _, kv := range list.Kvs {
		known[string(kv.Key)] = addrOf(kv.Value)
	}

	v.set(known)

	changes := client.Watch(ctx, prefix, clientv3.WithPrefix(),
		clientv3.WithRev(list.Header.Revision+1))
	for resp := range changes {
		for _, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				delete(known, string(e.Kv.Key))
			} else {
				known[string(e.Kv.Key)] = addrOf(e.Kv.Value)
			}
		}

		v.set(known)
	}
}

// register puts an entry and keeps its lease alive, until that ends or
// something fails.
func register(ctx context.Context, client *clientv3.Client, key, value string) {
	asking, cancel := context.WithTimeout(ctx, try)
	defer cancel()

	lease, err := client.Grant(asking, int64(ttl.Seconds()))
	if err == nil {
		_, err = client.Put(asking, key, value, clientv3.WithLease(lease.ID))
	}

	if err != nil {
		return
	}

	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return
	}

	for range renewals {
	}

	if ctx.Err() != nil {
		ending, cancel := context.WithTimeout(context.Background(), try)
		defer cancel()

		_, _ = client.Revoke(ending, lease.ID) // etcd may be away
	}
}

// view is what a process knows of a key. It is the [resolver.ClientConn] of our
// resolver.
type view struct {
	resolver.ClientConn                          // nil: our resolver calls only the methods below
	addrs               atomic.Pointer[[]string] // nil before the first update
}

func (v *view) set(known map[string]string) {
	addrs := slices.Collect(maps.Values(known))
	v.addrs.Store(&addrs)
}

// UpdateState implements [resolver.ClientConn].
func (v *view) UpdateState(s resolver.State) error {
	var addrs []string
	for _, endpoint := range s.Endpoints {
		addrs = append(addrs, endpoint.Addresses[0].Addr)
	}

	v.addrs.Store(&addrs)

	return nil
}

// ReportError implements [resolver.ClientConn].
func (v *view) ReportError(error) {}

// ParseServiceConfig implements [resolver.ClientConn].
func (v *view) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return nil
}

// entryOf returns an endpoint in the layout of etcd's own resolver.
func entryOf(addr string) string {
	return fmt.Sprintf(`{"Addr":%q}`, addr)
}

func addrOf(value []byte) string {
	var entry struct{ Addr string }
	_ = json.Unmarshal(value, &entry) // only entryOf and our runtime write values

	return entry.Addr
}
