package balancer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	_ "google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestS8_PickFirstShares flips between pick_first and others, with targets and withdrawals.
func TestS8_PickFirstShares(t *testing.T) {
	servers := serveAll(t, "a v1", "b v2", "c v1", "d v2")
	r := newRig(t, &attr.Client{})
	r.update(`{}`, servers)
	r.connected(servers)
	load := r.load("/s.A/M")
	for i := range 60 {
		child := []string{"pick_first", "round_robin", "etcd_weighted"}[i%3]
		more := []string{``, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}],`}[i/3%2]
		some := servers
		if i%4 == 3 {
			some = servers[1:]
		}
		r.update(`{`+more+`"childPolicy":[{"`+child+`":{}}]}`, some)
		if got, err := r.call(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "d"}), "/s.A/M"); err != nil || got != servers[3].Addr {
			t.Errorf("target: %s, %v", got, err)
		}
		load.goOn()
	}
	load.stop()
	made, open := connections(servers)
	if made > 4+15 || open > 4 {
		t.Errorf("%d connections made, %d open", made, open)
	}
}

// TestWhatLivesIsPicked goes through random sets, configs and losses: where an endpoint lives that is
// neither held nor drained, a call gets through.
func TestWhatLivesIsPicked(t *testing.T) {
	children := []string{`{"round_robin":{}}`, `{"etcd_weighted":{}}`, `{"pick_first":{}}`, `{"least_request_experimental":{}}`}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, cc := newTestPolicy(t)
		now := time.Now()
		p.now = func() time.Time { return now }
		client := &attr.Client{Subset: r.IntN(4), Zone: []string{"", "x"}[r.IntN(2)], Seed: maphash.MakeSeed()}
		for step := range 15 {
			p.do(func() { now = now.Add(time.Minute); p.core.expire(now) })
			var all []string
			held := map[string]struct{}{}
			drained := map[string]bool{}
			var drain []string
			down := map[string]error{}
			lives := false
			for i := range 8 {
				name := string(rune('a' + i))
				if r.IntN(3) == 0 {
					continue
				}
				all = append(all, fmt.Sprintf("%s v%d %s -", name, r.IntN(3), []string{"x", "y"}[r.IntN(2)]))
				if r.IntN(5) == 0 {
					drain, drained[name] = append(drain, `"`+name+`"`), true
				}
				if r.IntN(3) == 0 {
					held[name+":1"] = struct{}{}
					if r.IntN(2) == 0 {
						down[name+":1"] = errors.New("refused")
					}
				} else if !drained[name] {
					lives = true
				}
			}
			if !lives {
				continue
			}
			config := fmt.Sprintf(`{"preferZone":%v,"drain":[%s],"childPolicy":[%s]`, r.IntN(2) == 0, strings.Join(drain, ","), children[r.IntN(len(children))])
			if strings.Contains(config, `"preferZone":true`) && !strings.Contains(config, "pick_first") && r.IntN(2) == 0 {
				config += fmt.Sprintf(`,"zoneMinPercent":%d`, 1+r.IntN(100))
			}
			if r.IntN(4) == 0 {
				config += fmt.Sprintf(`,"subset":%d`, 1+r.IntN(5))
			}
			if r.IntN(2) == 0 {
				config += fmt.Sprintf(`,"split":[{"match":{"version":"v0"},"weight":%d},{"match":{"version":"v1"},"weight":1}]`, r.IntN(2))
			}
			cc.mu.Lock()
			cc.down = down
			cc.mu.Unlock()
			for _, s := range cc.open() {
				s.mu.Lock()
				state := s.state
				s.mu.Unlock()
				if down[s.addrs[0].Addr] != nil && state != connectivity.Idle || state == connectivity.TransientFailure { // its backoff is over
					s.set(connectivity.Idle, nil)
				}
			}
			ctx := context.Background()
			if r.IntN(2) == 0 {
				config += `,"route":[{"lane":"red","match":{"version":"v2"}},{"label":"zone"}]`
				ctx = calloptions.WithLane(ctx, []string{"", "red", "y", "green"}[r.IntN(4)])
			}
			_ = hand(p, mustConfig(t, config+"}"), &attr.State{Client: client, Endpoints: ends(all...), Held: held})
			settle(p, cc)
			var err error
			for range 20 {
				if _, err = cc.pick(ctx, "/s.A/M"); err == nil {
					break
				}
				settle(p, cc) // it was idle, or its turn came before the state of its SubConn
			}
			if err != nil {
				t.Fatalf("seed %d, step %d: %v\n%s}\n%q\nheld %v, down %v, subset %d, zone %q", seed, step, err, config, all, held, down, client.Subset, client.Zone)
			}
			have := map[string]bool{}
			for _, ep := range ends(all...) {
				have[address(&ep)] = true
			}
			seen := map[string]int{}
			p.do(func() {
				for _, s := range cc.open() {
					x := p.core.conns[s.addrs[0].Addr]
					if seen[s.addrs[0].Addr]++; !have[s.addrs[0].Addr] && !x.wanted && x.closeAt.IsZero() || seen[s.addrs[0].Addr] > 1 {
						t.Errorf("seed %d, step %d: %d SubConns of %s are open", seed, step, seen[s.addrs[0].Addr], s.addrs[0].Addr)
					}
				}
			})
		}
		p.Close()
	}
}
