package leader

import (
	"path"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// Candidates for a key are none for the key that it is nested under.
func TestNestedKeys(t *testing.T) {
	g := newGroup(t)
	for _, key := range []string{"acme/order/eu", "acme/order"} {
		desc := under(key, nil)
		g.startAs(path.Base(key), desc)
		if who := g.leader(g.clientOf(desc)); who != path.Base(key) {
			t.Errorf("%s leads %s", who, key)
		}
	}
}

// Calls reach the leader in layouts whose readers do not see the instance id that the server was given.
func TestLayouts(t *testing.T) {
	for _, layout := range []runtime.Layout{runtime.GoZero, runtime.LeaseSuffix, runtime.Kitex, runtime.GoFrame, runtime.Kratos} {
		t.Run(layout.String(), func(t *testing.T) {
			g := newGroup(t)
			desc := under("acme/order", layout)
			g.startAs("a", desc)
			g.leader(g.clientOf(desc))
		})
	}
}

func TestLayoutsThatDisagree(t *testing.T) {
	g := newGroup(t)
	server := g.registry(&wire{}).NewServer(grpc.NewServer())
	server.Publish(under("acme/order", nil), runtime.WithInstance("a"), runtime.WithLayouts(runtime.EndpointJSON, runtime.GoZero))
	if err := server.Announce(kit.Bounded(t, soon), "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "one election") {
		t.Errorf("layouts that disagree: %v", err)
	}
	server = g.registry(&wire{}).NewServer(grpc.NewServer())
	server.Publish(under("acme/order", nil), runtime.WithInstance(strings.Repeat("a", 1025)))
	if err := server.Announce(kit.Bounded(t, soon), "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "1025 bytes") {
		t.Errorf("a long instance id: %v", err)
	}
}

// Calls for the leader go to it whatever the policy, and others by the policy.
func TestE8_OneRule(t *testing.T) {
	g := newGroup(t)
	for _, name := range []string{"a", "b", "c"} {
		g.start(name)
	}
	g.configure(`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}}]}`)
	client := g.client()
	same := 0 // calls in a row that one instance has answered
	ctx, last := runtime.WithAffinity(t.Context(), "x"), ""
	kit.Eventually(t, soon, "other calls to keep to one", func() bool {
		reply, err := client.Peek(ctx, &leaderpb.AddRequest{}, grpc.WaitForReady(true))
		must(t, err)
		if reply.GetServer() != last {
			same, last = 0, reply.GetServer()
		}
		same++
		return same > 20
	})
	for range 10 {
		if who := g.leader(client); who != "a" {
			t.Fatalf("%s leads", who)
		}
	}
}
