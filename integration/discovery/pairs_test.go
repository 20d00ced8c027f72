package discovery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestK17_EachReachesBothOfOneID has two servers on one host, by whose name their entries call themselves.
func TestK17_EachReachesBothOfOneID(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b"} {
		w.put(key+"/"+name, fmt.Sprintf(`{"address":%q,"host":"one"}`, w.serve(name).addr))
	}
	desc := greeterAt(key)
	desc.Layout = runtime.JSONLayout(runtime.JSONFields{Addr: "address", Instance: "host"})
	all, err := w.registry.NewInstances(desc, insecurely)
	must(t, err)
	var mu sync.Mutex
	var names []string
	must(t, runtime.Each(kit.Bounded(t, soon), all, func(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c },
		func(ctx context.Context, _ runtime.Endpoint, c grpc.ClientConnInterface) error {
			name, err := call(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			names = append(names, name)
			return err
		}))
	slices.Sort(names)
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("each instance: %q", names)
	}
}

// TestP14_WhatIsTurnedAwayIsNoSuccess has an instance on which every call takes its whole timeout, beside a bound that turns
// away most of the calls to it: it is ejected all the same.
func TestP14_WhatIsTurnedAwayIsNoSuccess(t *testing.T) {
	w := newWorld(t, nil)
	hangs := w.start(&server{name: "a", do: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	w.register(hangs)
	w.registerAll("b", "c")
	conn := w.conn()
	_, _ = within(conn, 50*time.Millisecond) // from now on the key is followed
	w.live(`{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"1s","baseEjectionTime":"60s","maxEjectionPercent":100,` +
		`"failurePercentageEjection":{"threshold":50,"enforcementPercentage":100,"minimumHosts":1,"requestVolume":1},"childPolicy":[{"etcd":{"maxConcurrentRequests":1}}]}}]}`)
	kit.Eventually(t, soon, "20 calls in a row succeed at once", func() bool {
		for range 20 {
			if _, err := within(conn, 500*time.Millisecond); err != nil {
				if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
					t.Fatal(err)
				}
				return false
			}
		}
		return true
	})
}
