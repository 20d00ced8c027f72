package balancer

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

func TestQueue(t *testing.T) {
	var q queue
	started := 0
	q.start = func() { started++ }
	var done strings.Builder
	note := func(what string) func() { return func() { done.WriteString(what) } }
	take := func(events string, starts int) {
		t.Helper()
		for _, event := range q.take() {
			event()
		}
		if done.String() != events || started != starts {
			t.Errorf("%q were handled after %d starts, want %q and %d", done.String(), started, events, starts)
		}
		done.Reset()
	}
	q.put(note("a"))
	q.put(func() { q.put(note("c")); note("b")() })
	take("ab", 1)
	take("c", 1) // whoever took the others looks again
	take("", 1)
	q.put(note("d"))
	take("d", 2)
}

// TestP10_NothingHoldsAPickUp picks while the policy is busy with 10,000 targets that leave.
func TestP10_NothingHoldsAPickUp(t *testing.T) {
	const n = 10_000
	p, cc := newPolicy(t)
	fleet := bigFleet(n)
	client := &attr.Client{TargetsOnly: true}
	_ = hand(p, nil, &attr.State{Client: client, Endpoints: fleet})
	to := func(i int) error {
		info := balancer.PickInfo{Ctx: WithTarget(context.Background(), fmt.Sprintf("i%05d", i)), FullMethodName: "/s.A/M"}
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
