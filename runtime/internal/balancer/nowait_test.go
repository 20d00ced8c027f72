package balancer

import (
	"context"
	"fmt"
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
