package balancer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// boundable are the ways of picking that have a bound.
var boundable = []string{
	`{"round_robin":{}}`, `{"least_request_experimental":{}}`, `{"etcd_weighted":{}}`, `{"etcd_peak_ewma":{}}`,
	`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
}

func bound(most int, child string) string {
	return fmt.Sprintf(`{"maxConcurrentRequests":%d,"childPolicy":[%s]}`, most, child)
}

// open begins a call that is under way until the returned function is called.
func (r *rig) open(ctx context.Context, opts ...grpc.CallOption) (end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	if _, err = r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/s.A/M", opts...); err != nil {
		cancel()
	}
	return cancel, err
}

// TestABoundHolds opens calls to two servers until both are full.
func TestABoundHolds(t *testing.T) {
	for _, child := range boundable {
		t.Run(child, func(t *testing.T) {
			servers := serveAll(t, "a", "b")
			r := newRig(t, &attr.Client{})
			r.update(bound(2, child), servers)
			eventually(t, "each server is called", func() bool {
				if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
					t.Fatal(err)
				}
				return servers[0].calls.Load() > 0 && servers[1].calls.Load() > 0
			})
			var ends []func()
			defer func() {
				for _, end := range ends {
					end()
				}
			}()
			more := func(n int) {
				t.Helper()
				for range n {
					end, err := r.open(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					ends = append(ends, end)
				}
			}
			fails := func(ctx context.Context) {
				t.Helper()
				for _, wait := range []bool{false, true} {
					if _, err := r.call(ctx, "/s.A/M", grpc.WaitForReady(wait)); status.Code(err) != codes.Unavailable ||
						!strings.Contains(err.Error(), `"acme/user"`) || !strings.Contains(err.Error(), "max_concurrent_requests") {
						t.Fatalf("wait for ready %v: %v", wait, err)
					}
				}
			}
			more(4)
			fails(context.Background())
			fails(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "a"}))
			r.update(bound(3, child), servers)
			eventually(t, "a higher bound holds", func() bool {
				_, err := r.call(context.Background(), "/s.A/M")
				return err == nil
			})
			more(2)
			fails(context.Background())
			r.update(`{"childPolicy":[`+child+`]}`, servers)
			eventually(t, "no bound is in force", func() bool {
				_, err := r.call(context.Background(), "/s.A/M")
				return err == nil
			})
			for _, end := range ends {
				end()
			}
			r.update(bound(1, child), servers)
			eventually(t, "no call is counted any more", func() bool {
				first, err := r.open(context.Background())
				if err != nil {
					return false
				}
				defer first()
				second, err := r.open(context.Background())
				if err == nil {
					second()
				}
				return err == nil
			})
			if made, open := connections(servers); made != 2 || open != 2 {
				t.Errorf("%d connections were made, %d are open", made, open)
			}
		})
	}
}

// TestTheLastFreeOneIsFound fills 20 endpoints, each of which has room for one call.
func TestTheLastFreeOneIsFound(t *testing.T) {
	for _, child := range boundable {
		p, cc := newTestPolicy(t)
		_ = hand(p, mustConfig(t, bound(1, child)), &attr.State{Endpoints: bigFleet(20)})
		settle(p, cc)
		for n := range 20 {
			if _, _, err := cc.begin(t.Context(), "/s.A/M"); err != nil {
				t.Errorf("%s: with %d calls under way: %v", child, n, err)
			}
		}
	}
}

// TestCallsAreCountedOnce picks from many goroutines and ends the calls in any order, as the bound changes.
func TestCallsAreCountedOnce(t *testing.T) {
	for _, child := range boundable {
		p, cc := newTestPolicy(t)
		update := func(most int) {
			_ = hand(p, mustConfig(t, bound(most, child)), &attr.State{Client: &attr.Client{}, Endpoints: ends("a", "b", "c")})
			settle(p, cc)
		}
		update(3)
		all := slices.Collect(maps.Values(p.core.conns))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				var under []balancer.PickResult
				for range 500 {
					result, err := stateOf(cc).Picker.Pick(balancer.PickInfo{Ctx: context.Background()})
					if err == nil {
						under = append(under, result)
					} else if status.Code(err) != codes.Unavailable && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
						t.Error(err)
					}
					if len(under) > 0 && rand.IntN(2) == 0 {
						i := rand.IntN(len(under))
						under[i].Done(balancer.DoneInfo{BytesReceived: rand.IntN(2) == 0})
						under = append(under[:i], under[i+1:]...)
					}
					for _, x := range all {
						if n := x.stats.UnderWay(); n > 3 {
							t.Errorf("%d calls are under way", n)
						}
					}
				}
				for _, result := range under {
					result.Done(balancer.DoneInfo{})
				}
			})
		}
		for i := range 20 {
			update(1 + i%3)
		}
		wg.Wait()
		for _, x := range all {
			if n := x.stats.UnderWay(); n != 0 {
				t.Errorf("%s: %s has %d calls", child, x.addr, n)
			}
		}
	}
}

func stateOf(cc *fakeConn) balancer.State {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.state
}

// TestP13_TheBoundHoldsForAPolicyAndItsSuccessor has gRPC build the policy anew, as it does where outlier detection comes or
// goes above it, while calls are under way.
func TestP13_TheBoundHoldsForAPolicyAndItsSuccessor(t *testing.T) {
	client := &attr.Client{Stats: new(picking.Memory)}
	for i, want := range []bool{true, true, false} {
		p, cc := newTestPolicy(t)
		_ = hand(p, mustConfig(t, `{"maxConcurrentRequests":1}`), &attr.State{Client: client, Endpoints: ends("a", "b")})
		settle(p, cc)
		if _, _, err := cc.begin(t.Context(), "/s.A/M"); (err == nil) != want {
			t.Errorf("call %d: %v", i, err)
		}
	}
}
