package leader

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

func TestCallsGoToTheLeader(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	g.start("b")

	client := g.client()
	for range 20 {
		if who := g.leader(client); who != "a" {
			t.Fatalf("%s leads, want a, the first candidate", who)
		}
	}

	stream, err := client.Watch(kit.Context(t), &leaderpb.AddRequest{})
	kit.Must(t, err)

	if reply, err := stream.Recv(); err != nil || reply.GetServer() != "a" {
		t.Errorf("Watch: reply %v, error %v, want a reply of the leader a", reply, err)
	}

	var others []string
	kit.Eventually(t, "calls of Peek to reach both instances", func() bool {
		reply, err := client.Peek(kit.Context(t), &leaderpb.AddRequest{})
		if err == nil && !slices.Contains(others, reply.GetServer()) {
			others = append(others, reply.GetServer())
		}

		return len(others) == 2
	})

	targeted := runtime.WithTarget(kit.Context(t), "a")
	if _, err := client.Add(
		targeted, &leaderpb.AddRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Add with WithTarget: %v, want FailedPrecondition", err)
	}
}

// A leader rejects calls for the leader without its current token. Any other
// instance rejects all of them.
func TestGuard(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	b := g.start("b")
	g.leader(g.client())

	for _, row := range []struct {
		to    *instance
		token string
		want  codes.Code
		text  string
	}{
		{a, "", codes.FailedPrecondition, "has 0 leader tokens"},
		{a, "x", codes.FailedPrecondition, "invalid leader token"},
		{a, "1", codes.Unavailable, "with the token 1, but this leader has"},
		{b, "1", codes.Unavailable, "does not lead"},
	} {
		conn, err := grpc.NewClient(row.to.addr, kit.Insecure)
		kit.Must(t, err)

		ctx := kit.Context(t)
		if row.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, leader.TokenHeader, row.token)
		}

		_, err = leaderpb.NewCounterClient(conn).Add(ctx, &leaderpb.AddRequest{})
		if status.Code(err) != row.want || !strings.Contains(err.Error(), row.text) {
			t.Errorf("a call with the token %q to %s: %v, want %v with %q", row.token, row.to.name,
				err, row.want, row.text)
		}

		conn.Close()
	}

	registry := g.registry()
	lone := leader.Of(registry, &leaderpb.Counter_EtcdServiceDesc)

	err := lone.Check(metadata.NewIncomingContext(t.Context(),
		metadata.Pairs(leader.TokenHeader, "1")))
	if !strings.Contains(err.Error(), "is not registered") {
		t.Errorf("Check without registration: %v, want an error with \"is not registered\"", err)
	}

	none := leader.Of(registry, &runtime.ServiceDesc{Name: "a.B", Key: "a"})
	err = none.Run(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "no call of service a.B goes to a leader") {
		t.Errorf("Run for a service without methods for a leader: %v, want an error that names the service a.B", err)
	}
}

// A connection that was idle calls the last known leader while etcd does not
// answer.
func TestLeader_IsCalledAfterIdle(t *testing.T) {
	g := newGroup(t)
	own := etcdtest.Start(t)
	g.etcdClient = own.Client(t)
	g.start("a")
	conn, err := g.registry().NewClient(&leaderpb.Counter_EtcdServiceDesc, kit.Insecure,
		grpc.WithIdleTimeout(50*time.Millisecond))
	kit.Must(t, err)
	g.leader(leaderpb.NewCounterClient(conn))

	for conn.GetState() != connectivity.Idle {
		conn.WaitForStateChange(t.Context(), conn.GetState())
	}

	own.Pause()

	defer own.Resume()

	if _, err := leaderpb.NewCounterClient(conn).Add(
		kit.Context(t), &leaderpb.AddRequest{}); err != nil {
		t.Errorf("a call to the leader after idle, without etcd: %v", err)
	}
}

// A call for the leader waits until its deadline while no instance leads. While
// the leader is unreachable, errors name it and the cause.
func TestNoLeader(t *testing.T) {
	g := newGroup(t)
	client := g.client()

	// earlier errors say that the key is not known
	kit.Eventually(t, "the error says that there is no leader", func() bool {
		_, err := client.Add(kit.Bounded(t, 300*time.Millisecond), &leaderpb.AddRequest{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("Add without a leader: %v, want DeadlineExceeded", err)
		}

		return strings.Contains(err.Error(), "no leader of")
	})

	waits := make(chan error, 1)
	go func() {
		_, err := client.Add(kit.Context(t), &leaderpb.AddRequest{})
		waits <- err
	}()

	a := g.start("a")

	if err := await(t, waits); err != nil {
		t.Errorf("Add that waits for the leader: %v, want success", err)
	}

	a.grpc.Stop()
	kit.Eventually(t, "the error names the server that refused the connection", func() bool {
		_, err := client.Add(kit.Bounded(t, 200*time.Millisecond), &leaderpb.AddRequest{})
		code := status.Code(err)
		if code != codes.DeadlineExceeded && code != codes.Unavailable {
			t.Fatalf("Add to a stopped leader: %v, want DeadlineExceeded or Unavailable", err)
		}

		return strings.Contains(err.Error(), `instance "a" at "`+a.addr) &&
			strings.Contains(err.Error(), "refused")
	})
}

// The client removes a foreign token from the metadata of a call. A handler may
// have forwarded the metadata of the call that it handles.
func TestForwardedMetadata(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	client := g.client()

	ctx := metadata.AppendToOutgoingContext(kit.Context(t), leader.TokenHeader, "7")
	if _, err := client.Add(ctx, &leaderpb.AddRequest{N: 1}); err != nil {
		t.Errorf("Add with a foreign token: %v, want success", err)
	}

	stream, err := client.Watch(ctx, &leaderpb.AddRequest{})
	kit.Must(t, err)

	if _, err := stream.Recv(); err != nil {
		t.Errorf("Watch with a foreign token: %v, want success", err)
	}
}

// Calls reach the leader in every layout, even if entries do not have the
// instance id. A candidate for acme/order/eu is not one for acme/order.
func TestLayouts(t *testing.T) {
	for _, layout := range []runtime.Layout{nil, runtime.GoZero, runtime.LeaseSuffix,
		runtime.Kitex, runtime.GoFrame, runtime.Kratos} {
		t.Run(fmt.Sprint(layout), func(t *testing.T) {
			g := newGroup(t)
			for _, key := range []string{"acme/order/eu", "acme/order"} {
				desc := under(key, layout)
				g.startAs(path.Base(key), desc)

				if who := g.leader(g.clientOf(desc)); who != path.Base(key) {
					t.Errorf("leader of %s: instance %s, want %s", key, who, path.Base(key))
				}
			}
		})
	}
}

// Foreign keys among the candidates, 500 of them and some of 1 MB, do not keep
// the only candidate from leading (E7).
func TestForeignCandidates_AreIgnored(t *testing.T) {
	g := newGroup(t)
	lease, err := etcd.Admin().Grant(t.Context(), 600)
	kit.Must(t, err)

	// "!" sorts before any candidate, "~" after
	key := func(i int) string {
		return fmt.Sprintf("%s%s%c%d", g.namespace, candidates, "!~"[i%2], i)
	}
	for i := range 5 {
		var puts []clientv3.Op
		for n := range 100 {
			puts = append(puts, clientv3.OpPut(key(100*i+n), "x"))
		}

		_, err := etcd.Admin().Txn(t.Context()).Then(puts...).Commit()
		kit.Must(t, err)
	}

	for i := range 6 {
		_, err := etcd.Admin().Put(t.Context(), key(i), strings.Repeat("x", 1<<20),
			clientv3.WithLease(lease.ID))
		kit.Must(t, err)
	}

	a := g.start("a")
	kit.Eventually(t, "a to lead", a.leads.Holds)
}

// A drained leader resigns if an instance that is not drained can lead, and
// calls reach the new leader (E9).
func TestDrained_Resigns(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	b := g.start("b")
	client := g.client()
	drain := func(names string) {
		g.configure(`{"loadBalancingConfig":[{"etcd":{"drain":[` + names + `]}}]}`)
	}
	drain(`"a"`)
	kit.Eventually(t, "b to lead", func() bool {
		return b.leads.Holds() && g.leader(client) == "b"
	})

	status := a.server.Status()[0]
	if status.State != runtime.StateRegistered ||
		status.Err != nil ||
		g.logs.Count("drains it") != 1 {
		t.Errorf("status of a: %+v, log: %v; want registered without an error, and one line with \"drains it\"",
			status, g.logs.Lines())
	}

	drain(`"a", "` + b.addr + `"`) // drains all candidates, so b leads on
	kit.Must(t, b.server.Withdraw(kit.Context(t)))
	kit.Eventually(t, "a, the only candidate, to lead", func() bool {
		return g.leader(client) == "a"
	})

	if n := g.logs.Count("etcd registration lost"); n > 0 {
		t.Errorf("%d log lines with \"etcd registration lost\", want none: %v", n, g.logs.Lines())
	}
}
