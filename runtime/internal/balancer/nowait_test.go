package balancer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestTargets_ManyOfOneID names each of many endpoints that have one instance id: a call goes to the address that it names.
func TestTargets_ManyOfOneID(t *testing.T) {
	p, cc := newTestPolicy(t)
	client := &attr.Client{TargetsOnly: true}
	fleet := make([]resolver.Endpoint, 100)
	for i := range fleet {
		fleet[i] = attr.New(&endpoint.Endpoint{Instance: "twin", Addr: fmt.Sprintf("a%05d:1", i)}, new(attr.Storage))
	}
	_ = hand(p, nil, &attr.State{Client: client, Endpoints: fleet})
	for range 2 {
		for i := range fleet {
			to := calloptions.Target{Instance: "twin", Addr: address(&fleet[i])}
			if addr, err := cc.pick(calloptions.WithTarget(t.Context(), to), "/s.A/M"); err == nil && addr != to.Addr {
				t.Fatalf("a call to %s goes to %s", to.Addr, addr)
			}
		}
		settle(p, cc)
	}
}

// TestP10_NothingHoldsAPickUp picks while the policy is busy with 10,000 targets that leave.
func TestP10_NothingHoldsAPickUp(t *testing.T) {
	const n = 10_000
	p, cc := newTestPolicy(t)
	fleet := bigFleet(n)
	client := &attr.Client{TargetsOnly: true}
	_ = hand(p, nil, &attr.State{Client: client, Endpoints: fleet})
	to := func(i int) error {
		info := balancer.PickInfo{Ctx: calloptions.WithTarget(context.Background(), calloptions.Target{Instance: fmt.Sprintf("i%05d", i)}), FullMethodName: "/s.A/M"}
		_, err := stateOf(cc).Picker.Pick(info)
		return err
	}
	for i := range n {
		_ = to(i)
	}
	settle(p, cc)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if err := to(0); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	p.do(func() {
		if err := to(0); err != nil { // with the lock held
			t.Error(err)
		}
	})
	_ = hand(p, nil, &attr.State{Client: client, Endpoints: fleet[:1]})
	p.do(func() { p.core.reselect(time.Now().Add(linger)) })
	settle(p, cc)
	close(stop)
	<-done
	if open := cc.open(); len(open) != 1 || open[0].state != connectivity.Ready {
		t.Errorf("%d connections are open", len(open))
	}
}

// TestP10_ACallThatMeetsAnOldStandingIsAnswered makes a call by the last picker, while another makes the standing of that.
func TestP10_ACallThatMeetsAnOldStandingIsAnswered(t *testing.T) {
	for _, tt := range []struct {
		name, config  string
		before, after connectivity.State // of the one that calls are tied to
	}{
		{"it was connecting", `{}`, connectivity.Idle, connectivity.Ready},
		{"it had failed", `{}`, connectivity.TransientFailure, connectivity.Ready},
		{"it was connecting, of a ring", `{"maxConcurrentRequests":1,` + ringConfig + `}`, connectivity.Idle, connectivity.Ready},
		{"it was ready", `{"maxConcurrentRequests":1,` + ringConfig + `}`, connectivity.Ready, connectivity.TransientFailure},
	} {
		p, cc := newTestPolicy(t)
		_ = hand(p, mustConfig(t, tt.config), &attr.State{Client: &attr.Client{}, Endpoints: ends("a", "b")})
		settle(p, cc)
		ctx := calloptions.WithAffinity(t.Context(), "somebody")
		addr, end, err := cc.begin(ctx, "/s.A/M")
		if err != nil {
			t.Fatal(err)
		}
		end()
		cc.hangs = map[string]bool{addr: true}
		tell := func(addr string, state connectivity.State) {
			cc.last(addr).set(state, errors.New("refused"))
			settle(p, cc)
			_, end, err := cc.begin(ctx, "/s.A/M")
			if err == nil {
				end()
			}
		}
		if tt.config == `{}` {
			tell(map[string]string{"a:1": "b:1", "b:1": "a:1"}[addr], connectivity.TransientFailure)
		}
		tell(addr, tt.before)
		cc.last(addr).set(tt.after, errors.New("refused"))
		settle(p, cc)
		v := p.core.plan.called()[0]
		v.making.Lock()
		answered := make(chan error, 1)
		go func() {
			_, end, err := cc.begin(ctx, "/s.A/M")
			if err == nil {
				end()
			}
			answered <- err
		}()
		for n := 0; n < 1000 && len(answered) == 0; n++ {
			runtime.Gosched()
		}
		v.making.Unlock()
		if err := <-answered; err != nil {
			t.Errorf("%s: %v, and no other picker comes", tt.name, err)
		}
		for addr, x := range p.core.conns {
			if n := x.stats.UnderWay(); n != 0 {
				t.Errorf("%s: %d calls are counted at %s", tt.name, n, addr)
			}
		}
	}
}
