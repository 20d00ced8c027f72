package discovery

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestABound fills both servers of a fleet with calls, by a bound that comes and goes by a live config.
func TestABound(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t)
	servers := []*backend{f.start("a"), f.start("b")}
	conn := f.client("")
	only(t, conn, "a", "b")
	f.live(policy(`{"etcd":{"maxConcurrentRequests":1,"childPolicy":[{"round_robin":{}}]}}`))

	// The bound is in force with the first call that is refused: what came before it is not counted, and each server has
	// one call that is.
	var under int
	ended := make(chan error)
	for full := false; !full; {
		go func() {
			_, err := call(metadata.AppendToOutgoingContext(kit.Bounded(t, 6*soon), "hold", "1"), conn)
			ended <- err
		}()
		select {
		case <-servers[0].holding:
			under++
		case <-servers[1].holding:
			under++
		case err := <-ended:
			if full = status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "max_concurrent_requests"); !full {
				t.Fatal(err)
			}
		}
	}
	for what, ctx := range map[string]context.Context{
		"a call beyond the bound":           kit.Bounded(t, soon),
		"a call that names a full instance": runtime.WithTarget(kit.Bounded(t, soon), "a"),
	} {
		_, err := call(ctx, conn)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "max_concurrent_requests") || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.live("")
	kit.Eventually(t, soon, "calls without a bound", func() bool {
		_, err := call(kit.Bounded(t, soon), conn)
		return err == nil
	})
	for _, s := range servers {
		close(s.hold)
	}
	for range under {
		if err := <-ended; err != nil {
			t.Errorf("a call that was let through: %v", err)
		}
	}
}

// TestPoliciesChangeUnderLoad has live configs put one policy in the place of another while calls are made.
func TestPoliciesChangeUnderLoad(t *testing.T) {
	leak.Beside(t)
	f := newFleet(t)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		f.start(name)
	}
	conn := f.client("")
	only(t, conn, names...)
	stop := callAllTheTime(t, conn, 2)
	for _, config := range []string{
		`{"etcd":{"slowStart":{"window":"10s"},"childPolicy":[{"etcd_peak_ewma":{}}]}}`,
		`{"etcd":{"slowStart":{"window":"10s","minPercent":20},"maxConcurrentRequests":64,"childPolicy":[{"round_robin":{}}]}}`,
		`{"etcd":{"route":[{"lane":"red","match":{"instance":"nobody"}}],"maxConcurrentRequests":64,"childPolicy":[{"least_request_experimental":{}}]}}`,
	} {
		f.live(policy(config))
		if name, err := call(runtime.WithLane(kit.Bounded(t, soon), "red"), conn); err != nil {
			t.Errorf("under %s: %s, %v", config, name, err)
		}
		only(t, conn, names...)
	}
	f.live("")
	only(t, conn, names...)
	if stop() == 0 {
		t.Error("no calls")
	}
}
