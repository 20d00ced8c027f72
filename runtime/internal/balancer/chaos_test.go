package balancer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestShellAlways hands random states down while connections come and go and calls are made, and
// checks what is left when all is quiet: what may be called is, by one SubConn an address.
func TestShellAlways(t *testing.T) {
	var configs []*config
	for _, text := range []string{"", byVersion, ring, byVersion + "," + ring, `"preferZone":true`, firstOne, strictRed, looseRed + `,"zoneMinPercent":60,"preferZone":true`,
		`"childPolicy":[{"least_request_experimental":{}}],"maxConcurrentRequests":3`, `"childPolicy":[{"etcd_weighted":{}}],"subset":2`, `"drain":["a","c"]`} {
		configs = append(configs, mustConfig(t, "{"+text+"}"))
	}
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		p, cc := newTestPolicy(t)
		client := &attr.Client{Zone: "x", Seed: seedOfTests, Subset: int(seed%3) * 2}
		if seed%2 == 1 {
			client.Most = 3
		}
		stop := make(chan struct{})
		var calls sync.WaitGroup
		for i := range 2 {
			calls.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx := context.Background()
					if rnd.IntN(4) == 0 {
						ctx = calloptions.WithTarget(ctx, calloptions.Target{Instance: string(rune('a' + rnd.IntN(6)))})
					} else if rnd.IntN(2) == 0 {
						ctx = calloptions.WithLane(ctx, "red")
					}
					cc.mu.Lock()
					picker := cc.state.Picker
					cc.mu.Unlock()
					if picker != nil {
						result, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: "/s.A/New"})
						if err == nil && result.Done != nil {
							result.Done(balancer.DoneInfo{})
						}
					}
					time.Sleep(20 * time.Microsecond)
				}
			})
		}
		var fleet []resolver.Endpoint
		for range 100 {
			switch rnd.IntN(6) {
			case 0, 1, 2:
				fleet = nil
				for i := range 6 {
					if rnd.IntN(4) > 0 {
						fleet = append(fleet, ends(fmt.Sprintf("%c v%d %c s.A/M%s", 'a'+i, 1+rnd.IntN(2), 'x'+rune(rnd.IntN(2)), []string{"", ",New"}[rnd.IntN(2)]))...)
					}
				}
				_ = hand(p, configs[rnd.IntN(len(configs))], &attr.State{Client: client, Endpoints: fleet})
			case 3:
				if open := cc.open(); len(open) > 0 {
					open[rnd.IntN(len(open))].set(connectivity.Idle, nil)
				}
			case 4:
				addr := fmt.Sprintf("%c:1", 'a'+rnd.IntN(6))
				cc.mu.Lock()
				if cc.down[addr] == nil {
					cc.down[addr] = errors.New("down")
				} else {
					delete(cc.down, addr)
				}
				cc.mu.Unlock()
			case 5:
				cc.revive()
			}
			if rnd.IntN(3) == 0 {
				settle(p, cc)
			}
		}
		cc.mu.Lock()
		clear(cc.down)
		cc.mu.Unlock()
		fleet = ends("a v1 x", "b v1 x", "c v2 y")
		client = &attr.Client{Zone: "x", Seed: seedOfTests}
		_ = hand(p, configs[0], &attr.State{Client: client, Endpoints: fleet})
		close(stop)
		calls.Wait()
		settled := func() bool {
			cc.revive()
			settle(p, cc)
			reached := map[string]bool{}
			for range 30 {
				if addr, err := cc.pick(context.Background(), "/s.A/New"); err == nil {
					reached[addr] = true
				}
			}
			return len(reached) == 3
		}
		for deadline := time.Now().Add(patience); !settled(); {
			if time.Now().After(deadline) {
				t.Fatalf("seed %d: not every endpoint is called: state %v, open %s", seed, cc.state.ConnectivityState, addrs(cc.open()))
			}
		}
		p.do(func() { p.core.expire(time.Now().Add(linger)) })
		p.do(func() {
			if len(p.core.all) != 3 || p.core.counts != [3]int{ready: 3} {
				t.Errorf("seed %d: %d connections are known, by kind %v", seed, len(p.core.all), p.core.counts)
			}
			for _, x := range p.core.all {
				if n := x.stats.UnderWay(); n != 0 {
					t.Errorf("seed %d: %s has %d calls", seed, x.addr, n)
				}
			}
		})
		if got := addrs(cc.open()); got != "abc" {
			t.Errorf("seed %d: open: %s", seed, got)
		}
		p.Close()
		for _, sc := range cc.made {
			if sc.shutdowns != 1 {
				t.Fatalf("seed %d: a SubConn was shut down %d times", seed, sc.shutdowns)
			}
		}
	}
}

// revive ends the back-off of what is down.
func (c *fakeConn) revive() {
	for _, sc := range c.open() {
		sc.mu.Lock()
		down := sc.state == connectivity.TransientFailure
		sc.mu.Unlock()
		if down {
			sc.set(connectivity.Idle, nil)
		}
	}
}
