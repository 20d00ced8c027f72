package balancer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestP10_NothingHoldsAPickUp picks while the policy is busy with 10,000 targets that leave.
func TestP10_NothingHoldsAPickUp(t *testing.T) {
	const n = 10_000
	p, cc := newPolicy(t)
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
	slowest := time.Duration(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			began := time.Now()
			if err := to(0); err != nil {
				t.Error(err)
				return
			}
			slowest = max(slowest, time.Since(began))
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
	settle(p, cc)
	close(stop)
	<-done
	t.Logf("the slowest pick took %v", slowest)
	if open := cc.open(); len(open) != 1 || open[0].state != connectivity.Ready {
		t.Errorf("%d connections are open", len(open))
	}
}
