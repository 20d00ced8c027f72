//go:build !race

// The race detector of go1.26 ends about one run in eight of these:
// golang/go#78156. make simulate runs them without it.

package walk

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/harness"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// distant is a registry whose etcd is far away.
type distant struct {
	*runtime.Registry
	etcd *etcd.Cluster
	log  bytes.Buffer // may be read after synctest.Wait

	mu    sync.Mutex
	calls map[string]int // the number of calls by method
}

// inDistance runs f in a bubble, with a registry whose etcd takes a round trip
// to answer.
func inDistance(t *testing.T, roundTrip time.Duration, f func(*testing.T, *distant)) {
	const here, there = "10.0.0.1", "10.0.0.2"

	etcd.Bubble(t, func(t *testing.T) {
		net := network.New()
		net.Set(here, there, network.Link{Delay: roundTrip / 2})
		cluster, err := etcd.New(net, etcdAddrs, 0)
		must.Succeed(t, err)

		d := &distant{etcd: cluster, calls: map[string]int{}}
		defer func() { must.Succeed(t, d.etcd.Close()) }()

		d.etcd.Intercept(func(c etcd.Call) etcd.Verdict {
			d.mu.Lock()
			defer d.mu.Unlock()

			d.calls[c.Method]++

			return etcd.Verdict{}
		})

		client := harness.Connect(harness.ClientConfig(etcdAddrs,
			grpc.WithContextDialer(net.Dialer(here))))
		defer client.Close()

		d.Registry = runtime.NewRegistry(client,
			runtime.WithLogger(slog.New(slog.NewTextHandler(&d.log, nil))))
		defer d.Close(t.Context())

		f(t, d)
	})
}

// asked returns the number of calls of a method that etcd has received.
func (d *distant) asked(method string) int {
	d.mu.Lock()
	defer d.mu.Unlock()

	return d.calls[method]
}

// A registry knows many keys of a distant etcd after a few round trips. It
// makes one list and one watch for the endpoints of each key, and as many for
// the live config of the key (K21). Once the watches are open, it sees changes
// at once. It does not report the delay as a fault (K13).
func TestK13_ManyKeysOfADistantEtcd(t *testing.T) {
	const keys = 200
	for _, ms := range []time.Duration{1, 50, 100, 300} {
		roundTrip := ms * time.Millisecond
		t.Run(roundTrip.String(), func(t *testing.T) {
			inDistance(t, roundTrip, func(t *testing.T, d *distant) {
				ctx, stop := context.WithCancel(t.Context())
				var following sync.WaitGroup
				defer following.Wait()
				defer stop()

				var seen [keys]atomic.Int64 // number of endpoints by key

				put := func(name string) {
					for i := range keys {
						must.Succeed(t, d.etcd.Put(fmt.Sprintf("service-%d/%s", i, name),
							`{"Addr":"10.1.1.1:`+name+`"}`, 0))
					}
				}

				current := func() (n int) {
					for i := range seen {
						n += int(seen[i].Load())
					}

					return n
				}

				put("1")

				for i := range keys {
					following.Go(func() {
						for endpoints, err := range d.Watch(ctx, fmt.Sprintf("service-%d", i)) {
							if err != nil {
								t.Error(err)
							}

							seen[i].Store(int64(len(endpoints)))
						}
					})
				}

				time.Sleep(4*roundTrip + time.Second)

				if n := current(); n != keys {
					t.Errorf("%[2]d of %[1]d keys are known, want all", keys, n)
				}

				if requests := d.asked("Range") + d.asked("Watch"); requests > 4*keys+5 {
					t.Errorf("%d requests for %d keys, want at most %d", requests, keys, 4*keys+5)
				}

				put("2")
				time.Sleep(11 * time.Second) // proofs show changes until watches are open

				if n := current(); n != 2*keys {
					t.Errorf("%[2]d of %[1]d changes were seen while watches open, want all", keys,
						n-keys)
				}

				// watches open one after the other, each in a round trip
				time.Sleep(2 * keys * roundTrip)
				put("3")
				time.Sleep(roundTrip/2 + 10*time.Millisecond)
				synctest.Wait()

				if n := current(); n != 3*keys {
					t.Errorf("%[2]d of %[1]d changes were seen by watches, want all", keys,
						n-2*keys)
				}

				time.Sleep(time.Minute)
				synctest.Wait()
				reads := d.asked("Range")
				log := d.log.String()
				if reads > 4*keys+100 || log != "" {
					t.Errorf("%d reads, want at most %d; log %q, want it empty", reads, 4*keys+100,
						log)
				}

				t.Logf("%v", d.calls)
			})
		})
	}
}

// A distant etcd without changes costs few requests (K14).
func TestK14_AQuietDistantEtcd(t *testing.T) {
	for _, roundTrip := range []time.Duration{600 * time.Millisecond, 2 * time.Second} {
		t.Run(roundTrip.String(), func(t *testing.T) {
			inDistance(t, roundTrip, func(t *testing.T, d *distant) {
				ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
				defer stop()

				next, end := iter.Pull2(d.Watch(ctx, "service"))
				defer end()

				_, err, known := next()
				for ; known && err != nil; _, err, known = next() {
				}

				if !known {
					t.Fatal("no endpoints are known, want those in etcd")
				}

				time.Sleep(20 * time.Second)
				synctest.Wait()
				asked := d.asked("Range")
				logged := d.log.String() // what happened until the state was known

				if endpoints, err, ok := next(); ok {
					t.Errorf("Watch yielded %v, %v after the first state, want no change",
						endpoints, err)
				}

				synctest.Wait()
				lists := d.asked("Range") - asked
				log := d.log.String()
				if lists > 20 || log != logged {
					t.Errorf("%d reads, want at most 20; log %q, want the unchanged log %q", lists,
						log, logged)
				}
			})
		})
	}
}
