package leader

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

func TestCallsGoToTheLeader(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	g.start("b")
	client := g.client()
	for range 20 {
		if who := g.leader(client); who != "a" {
			t.Fatalf("%s leads, want a, which was first", who)
		}
	}
	stream, err := client.Watch(kit.Bounded(t, soon), &leaderpb.AddRequest{})
	must(t, err)
	if reply, err := stream.Recv(); err != nil || reply.GetServer() != "a" {
		t.Errorf("a stream: %v, %v", reply, err)
	}
	var others []string
	kit.Eventually(t, soon, "other calls to go to both", func() bool {
		reply, err := client.Peek(kit.Bounded(t, soon), &leaderpb.AddRequest{})
		if err == nil && !slices.Contains(others, reply.GetServer()) {
			others = append(others, reply.GetServer())
		}
		return len(others) == 2
	})
	targeted := runtime.WithTarget(kit.Bounded(t, soon), "a")
	if _, err := client.Add(targeted, &leaderpb.AddRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a call that names its instance: %v", err)
	}
	if token, ok := a.leads.Token(); !ok || token <= 0 || !a.leads.Holds() {
		t.Errorf("the leader has the token %d, %v", token, ok)
	}
}

// A server takes a call only with the token that it has now.
func TestGuard(t *testing.T) {
	g := newGroup(t)
	a, b := g.start("a"), g.start("b")
	g.leader(g.client())
	for _, row := range []struct {
		to    *instance
		token string
		want  codes.Code
		text  string
	}{
		{a, "", codes.FailedPrecondition, "has 0 tokens"},
		{a, "x", codes.FailedPrecondition, "no number"},
		{a, "1", codes.Unavailable, "with the token 1, but this one has"},
		{b, "1", codes.Unavailable, "does not lead"},
	} {
		conn, err := grpc.NewClient(row.to.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		ctx := kit.Bounded(t, soon)
		if row.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, leader.TokenHeader, row.token)
		}
		_, err = leaderpb.NewCounterClient(conn).Add(ctx, &leaderpb.AddRequest{})
		if status.Code(err) != row.want || !strings.Contains(err.Error(), row.text) {
			t.Errorf("token %q to %s: %v, want %v, %q", row.token, row.to.name, err, row.want, row.text)
		}
		conn.Close()
	}
	registry := g.registry(&wire{})
	lone := leader.Of(registry, &leaderpb.Counter_EtcdServiceDesc)
	err := lone.Check(metadata.NewIncomingContext(t.Context(), metadata.Pairs(leader.TokenHeader, "1")))
	if !strings.Contains(err.Error(), "without registration") {
		t.Errorf("a server without registration: %v", err)
	}
	none := leader.Of(registry, &runtime.ServiceDesc{Name: "a.B", Key: "a"})
	if err := none.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no method of service a.B is for a leader") {
		t.Errorf("a service without a leader: %v", err)
	}
}

// A call waits for a leader within its deadline, and then says that there was none.
func TestNoLeader(t *testing.T) {
	g := newGroup(t)
	client := g.client()
	kit.Eventually(t, soon, "a call to say that nobody leads", func() bool { // once the key is known
		_, err := client.Add(kit.Bounded(t, 300*time.Millisecond), &leaderpb.AddRequest{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("without a leader: %v", err)
		}
		return strings.Contains(err.Error(), "leads")
	})
	waits := make(chan error, 1)
	go func() {
		_, err := client.Add(kit.Bounded(t, soon), &leaderpb.AddRequest{})
		waits <- err
	}()
	g.start("a")
	if err := await(t, waits); err != nil {
		t.Errorf("a call that waits: %v", err)
	}
}

// A leader that is cut off from etcd is followed by the next when its lease has ended, and never before it has stepped down.
func TestCutOff(t *testing.T) {
	g := newGroup(t)
	first, second := g.startAs("a", brief(under(entries, nil))), g.start("b")
	client := g.client()
	g.leader(client)
	was, _ := first.leads.Token()
	type term struct {
		both  bool
		token int64
	}
	next := make(chan term, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		_ = second.leads.Run(ctx, func(_ context.Context, token int64) error { // ends with ctx
			next <- term{first.leads.Holds(), token}
			<-ctx.Done()
			return nil
		})
	}()
	first.wire.cut()
	kit.Eventually(t, soon, "b to answer", func() bool { return g.leader(client) == "b" })
	if is := await(t, next); is.both || is.token <= was {
		t.Errorf("both lead: %v; the token is %d, after %d", is.both, is.token, was)
	}
	if _, err := g.store.add(was, 1); err == nil {
		t.Error("the store takes the token of the leader before")
	}
	first.wire.mend()
	kit.Eventually(t, soon, "a to stand again", func() bool {
		status := first.server.Status()
		return len(status) == 1 && status[0].State == runtime.StateRegistered
	})
	if who := g.leader(client); who != "b" || first.leads.Holds() {
		t.Errorf("%s leads after a has come back", who)
	}
}

// Somebody deletes the leader's candidate: another one leads, and the store takes neither token twice.
func TestDeletedByForce(t *testing.T) {
	g := newGroup(t)
	first := g.start("a")
	g.start("b")
	client := g.client()
	g.leader(client)
	was, _ := first.leads.Token()
	for _, candidate := range g.candidates() {
		if string(candidate.Value) == "a" {
			_, err := etcd.Admin().Delete(t.Context(), string(candidate.Key))
			must(t, err)
		}
	}
	kit.Eventually(t, soon, "b to lead", func() bool { return g.leader(client) == "b" })
	kit.Eventually(t, soon, "a to stand behind b", func() bool { return len(g.candidates()) == 2 && !first.leads.Holds() })
	if _, err := g.store.add(was, 1); err == nil {
		t.Error("the store takes the token of the leader before")
	}
}

// A token that the caller has sent along is dropped, as where a handler forwards the metadata of its own call.
func TestForwardedMetadata(t *testing.T) {
	g := newGroup(t)
	g.start("a")
	client := g.client()
	ctx := metadata.AppendToOutgoingContext(kit.Bounded(t, soon), leader.TokenHeader, "7")
	if _, err := client.Add(ctx, &leaderpb.AddRequest{N: 1}); err != nil {
		t.Errorf("a call: %v", err)
	}
	stream, err := client.Watch(ctx, &leaderpb.AddRequest{})
	must(t, err)
	if _, err := stream.Recv(); err != nil {
		t.Errorf("a stream: %v", err)
	}
}

// A call whose leader cannot be reached says which that is, and why.
func TestUnreachable(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	g.leader(g.client())
	a.grpc.Stop()
	client := g.client()
	kit.Eventually(t, soon, "a call to say who refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := client.Add(ctx, &leaderpb.AddRequest{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("the call ends with %v", err)
		}
		return strings.Contains(err.Error(), `instance "a" at "`+a.addr) && strings.Contains(err.Error(), "refused")
	})
}

// A call that is refused until it ends, ends as its context does.
func TestRefusedUntilTheEnd(t *testing.T) {
	g := newGroup(t)
	a := g.startAs("a", brief(under(entries, nil)))
	client := g.client()
	g.leader(client)
	a.wire.cut() // it steps down, and its candidate stays for a while
	kit.Eventually(t, soon, "a to step down", func() bool { return !a.leads.Holds() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := client.Add(ctx, &leaderpb.AddRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("after its deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := client.Add(ctx, &leaderpb.AddRequest{}); status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLeaderSharesItsAddress puts a newer entry of another id at the leader's address, as somebody may who adds the server by
// hand. Callers then know the two as one endpoint.
func TestLeaderSharesItsAddress(t *testing.T) {
	g := newGroup(t)
	a := g.start("a")
	must(t, g.registry(&wire{}).Add(kit.Bounded(t, soon), entries, runtime.Endpoint{Instance: "by-hand", Addr: a.addr, Version: "v1"}))
	if who := g.leader(g.client()); who != "a" {
		t.Errorf("%s leads", who)
	}
}
