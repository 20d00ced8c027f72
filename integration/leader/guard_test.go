package leader

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// A stream at a leader ends when the leadership ends. Its error says so.
func TestStreamEndsWithTheLeadership(t *testing.T) {
	for does, watch := range map[string]func(leaderpb.Counter_WatchServer) error{
		"waits for its context": func(stream leaderpb.Counter_WatchServer) error {
			<-stream.Context().Done()

			if !errors.Is(context.Cause(stream.Context()), leader.ErrEnded) {
				return fmt.Errorf("cause of the context: %w, want ErrEnded",
					context.Cause(stream.Context()))
			}

			return nil
		},
		"sends what it has": func(stream leaderpb.Counter_WatchServer) error {
			for {
				if err := stream.Send(&leaderpb.AddResponse{}); err != nil {
					return err
				}
			}
		},
		"fails": func(stream leaderpb.Counter_WatchServer) error {
			<-stream.Context().Done()
			return status.Error(codes.Internal, "the store is closed")
		},
	} {
		t.Run(does, func(t *testing.T) {
			g := newGroup(t)
			a := g.start("a", func(i *instance) { i.watch = watch })
			kit.Eventually(t, "a to lead", a.leads.Holds)
			stream, err := g.client().Watch(kit.Context(t), &leaderpb.AddRequest{})
			kit.Must(t, err)
			_, err = stream.Recv()
			kit.Must(t, err)
			kit.Must(t, a.server.Withdraw(kit.Context(t)))

			for err == nil {
				_, err = stream.Recv()
			}

			want := `no longer leads "leader/counter"`
			if status.Code(err) != codes.Unavailable || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("the stream ended with %v, want Unavailable with %q", err, want)
			}
		})
	}
}

// If the leadership ends during a unary call, as the registry is closed or
// Resign stops waiting, a reply of the handler still reaches the caller. An
// error of the handler becomes one that says that the server no longer leads.
func TestCallEndsWithTheLeadership(t *testing.T) {
	closes := func(a *instance) error { return a.registry.Close(kit.Context(t)) }
	resigns := func(a *instance) error {
		over, cancel := context.WithCancel(t.Context())
		cancel()

		if err := a.leads.Resign(over); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("Resign with a cancelled context: %w, want Canceled", err)
		}

		return nil
	}
	for name, row := range map[string]struct {
		fails bool
		end   func(*instance) error
	}{"replies": {false, closes}, "fails": {true, closes}, "fails as it resigns": {true, resigns}} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			begun := make(chan struct{})
			a := g.start("a", func(i *instance) {
				i.add = func(ctx context.Context) (*leaderpb.AddResponse, error) {
					close(begun)
					<-ctx.Done()

					if row.fails {
						return nil, context.Cause(ctx)
					}

					return &leaderpb.AddResponse{Server: "a"}, nil
				}
			})

			client := g.client()
			ended := make(chan error, 1)
			go func() {
				reply, err := client.Add(kit.Context(t), &leaderpb.AddRequest{})
				if err == nil && reply.GetServer() != "a" {
					err = fmt.Errorf("answered by %q, want \"a\"", reply.GetServer())
				}

				ended <- err
			}()

			await(t, begun)
			kit.Must(t, row.end(a))

			err := await(t, ended)
			if row.fails && (status.Code(err) != codes.Unavailable ||
				!strings.Contains(err.Error(), "no longer leads")) || !row.fails && err != nil {
				t.Errorf("the call ended with %v, want Unavailable with \"no longer leads\": %v",
					err, row.fails)
			}
		})
	}
}

func TestFence(t *testing.T) {
	var f leader.Fence
	for _, row := range []struct {
		token int64
		ok    bool
	}{{-5, false}, {0, false}, {7, true}, {7, true}, {6, false}, {0, false}, {8, true}} {
		if err := f.Admit(row.token); (err == nil) != row.ok {
			t.Errorf("Admit(%d) = %v, want success: %v", row.token, err, row.ok)
		}
	}

	err := f.Admit(6)
	if !strings.Contains(err.Error(), "restored from a backup without --bump-revision") { // E5
		t.Error(err)
	}
}

// A handler forwards the trailer by which another server rejected its call. The
// client does not repeat the call to the handler.
func TestForwardedRefusal_IsNotRetried(t *testing.T) {
	g := newGroup(t)
	behind := grpc.NewServer(leader.Guard(g.registry(), under("leader/behind", nil))...)
	leaderpb.RegisterCounterServer(behind, leaderpb.UnimplementedCounterServer{})
	lis := kit.Listen(t)
	kit.Serve(t, behind, lis)
	conn, err := grpc.NewClient(lis.Addr().String(), kit.Insecure)
	kit.Must(t, err)

	defer conn.Close()

	runs := 0
	passed := false
	g.start("a", func(i *instance) {
		i.add = func(ctx context.Context) (*leaderpb.AddResponse, error) {
			runs++
			var trailer metadata.MD

			ctx = metadata.AppendToOutgoingContext(ctx, leader.TokenHeader, "1",
				"etcd-leader-call", "another")
			_, err := leaderpb.NewCounterClient(conn).Add(ctx, &leaderpb.AddRequest{N: 1},
				grpc.Trailer(&trailer))
			_, passed = trailer["etcd-leader-refused"]

			return nil, errors.Join(err, grpc.SetTrailer(ctx, trailer))
		}
	})

	_, err = g.client().Add(kit.Context(t), &leaderpb.AddRequest{N: 1})
	if err == nil || !passed || runs != 1 {
		t.Errorf("%d runs of the handler, trailer forwarded: %v, error of the call: %v; want 1 run, true and an error",
			runs, passed, err)
	}
}
