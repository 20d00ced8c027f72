package connectrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connectsame"
)

// Calls with the same affinity reach the same server, from every method and
// every client.
func TestAffinity(t *testing.T) {
	w := newWorld(t)
	w.libraries("a", "b", "c", "d")
	client := w.client()
	ctx := kit.Context(t)
	borrow := func(ctx context.Context, reader string) string {
		t.Helper()

		borrowed, err := client.Borrow(ctx,
			connectgo.NewRequest(&connect.BorrowRequest{Reader: &connect.Reader{Id: reader}}))
		kit.Must(t, err)

		return borrowed.Msg.GetServer()
	}

	search := func(ctx context.Context, shelf int32) string {
		t.Helper()

		found, err := client.Search(ctx, searching(shelf))
		kit.Must(t, err)

		defer func() { kit.Must(t, found.Close()) }()

		if !found.Receive() {
			t.Fatal(found.Err())
		}

		return found.Msg().GetTitle()[:1]
	}

	used := map[string]bool{}
	for shelf := range int32(20) {
		key := strconv.Itoa(int(shelf + 1))
		first := borrow(ctx, key)
		used[first] = true

		other := search(ctx, shelf+1)
		if other != first { // the affinity of a number is its decimal text
			t.Errorf("reader %s: Search reached %s, want %s as Borrow did", key, other, first)
		}

		// An affinity in the context overrides the request's.
		if other := search(runtime.WithAffinity(ctx, key), 99); other != first {
			t.Errorf("reader %s: Search with WithAffinity reached %s, want %s as Borrow did",
				key, other, first)
		}
	}

	if len(used) < 2 {
		t.Errorf("20 readers reached the servers %v, want at least 2", used)
	}

	// gRPC's client of the same service.
	other, err := connect.NewLibraryClientFromEtcd(w.newRegistry(), kit.Insecure)
	kit.Must(t, err)
	reply, err := other.Borrow(ctx, &connect.BorrowRequest{Reader: &connect.Reader{Id: "7"}})
	kit.Must(t, err)

	if mine := borrow(ctx, "7"); reply.GetServer() != mine {
		t.Errorf("reader 7: gRPC's client reached %s, want %s as Connect's did",
			reply.GetServer(), mine)
	}
}

// simple is a server with the method signatures that protoc-gen-connect-go's
// parameter simple generates.
type simple struct {
	connectsame.UnimplementedGreeterHandler
	name string
}

func (s simple) Hello(context.Context, *connectsame.Request) (*connectsame.Reply, error) {
	return &connectsame.Reply{Text: s.name}, nil
}

func (s simple) Hellos(
	_ context.Context,
	_ *connectsame.Request,
	stream *connectgo.ServerStream[connectsame.Reply],
) error {
	return stream.Send(&connectsame.Reply{Text: s.name})
}

func TestAffinityOfSimpleClients(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.serve(h2c(), func(s *connectetcd.Server) {
			connectsame.RegisterGreeterHandlerToEtcd(s, simple{name: name},
				connectetcd.WithRegisterOptions(runtime.WithInstance(name)))
		})
	}

	client, err := connectsame.NewGreeterClientFromEtcd(w.registry, kit.Insecure)
	kit.Must(t, err)

	ctx := kit.Context(t)
	for i := range 10 {
		hello, err := client.Hello(runtime.WithAffinity(ctx, fmt.Sprint(i)), &connectsame.Request{})
		kit.Must(t, err)
		hellos, err := client.Hellos(ctx, &connectsame.Request{Name: fmt.Sprint(i)})
		kit.Must(t, err)

		if !hellos.Receive() || hellos.Msg().GetText() != hello.GetText() {
			t.Errorf("affinity %d: Hellos reached %q, error %v, want %q as Hello did", i,
				hellos.Msg().GetText(), hellos.Err(), hello.GetText())
		}

		kit.Must(t, hellos.Close())
	}
}

// The calls of a Connect server have the lane of the call that it handles:
// unary or stream, of a Connect or gRPC client.
func TestLanes(t *testing.T) {
	w := newWorld(t)
	const route = `{"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"}]}}],"methodConfig":[]}`
	kit.Must(t, w.registry.SetServiceConfig(kit.Context(t), "connect/library", route))
	kit.Must(t, w.registry.SetServiceConfig(kit.Context(t), "connectsame", route))

	for _, lane := range []string{"", "red"} {
		var opts []runtime.RegisterOption
		if lane != "" {
			opts = append(opts, runtime.WithMetadata("lane", lane))
		}

		w.serve(h2c(), func(s *connectetcd.Server) {
			connectsame.RegisterGreeterHandlerToEtcd(s, simple{name: "greeter " + lane},
				connectetcd.WithRegisterOptions(opts...))
		})
	}

	// The library server is in no lane. Its calls to the greeter have the lane
	// of the call that it handles.
	next, err := connectsame.NewGreeterClientFromEtcd(w.newRegistry(), kit.Insecure)
	kit.Must(t, err)

	w.replying(replying{
		borrow: func(ctx context.Context, _ *borrowRequest) (*borrowResponse, error) {
			hello, err := next.Hello(ctx, &connectsame.Request{})
			return lentBy(hello.GetText()), err
		},
		chat: func(ctx context.Context, stream *bookChat) error {
			if _, err := stream.Receive(); err != nil {
				return err
			}

			hello, err := next.Hello(ctx, &connectsame.Request{})

			return errors.Join(err, stream.Send(&connect.Book{Title: hello.GetText()}))
		},
	}, connectgo.WithInterceptors(connectetcd.NewLaneInterceptor()))

	client := w.client()
	byGRPC, err := connect.NewLibraryClientFromEtcd(w.registry, kit.Insecure)
	kit.Must(t, err)

	for range 2 {
		for lane, want := range map[string]string{
			"":     "greeter ",
			"red":  "greeter red",
			"none": "greeter ",
		} {
			ctx := runtime.WithLane(kit.Context(t), lane)
			borrowed, err := client.Borrow(ctx, borrowing(""))
			kit.Must(t, err)
			reply, err := byGRPC.Borrow(ctx, &connect.BorrowRequest{})
			kit.Must(t, err)
			chat := client.Chat(ctx)
			kit.Must(t, chat.Send(&connect.Book{}))
			book, err := chat.Receive()
			kit.Must(t, errors.Join(err, chat.CloseRequest(), chat.CloseResponse()))

			got := [3]string{borrowed.Msg.GetServer(), reply.GetServer(), book.GetTitle()}
			if got != [3]string{want, want, want} {
				t.Errorf("lane %q: Borrow, Borrow by gRPC and Chat reached %q, want each %q", lane,
					got, want)
			}
		}
	}

	_, err = client.Borrow(runtime.WithLane(kit.Context(t), "no lane"), borrowing(""))
	wantCode(t, err, connectgo.CodeInvalidArgument, "is not a lane")
}

// desk is a server that is a candidate for the leadership.
type desk struct {
	connectconnect.UnimplementedDeskHandler
	t     *testing.T
	name  string
	leads *leader.Leadership
}

func (d desk) Register(ctx context.Context, req *borrowRequest) (*borrowResponse, error) {
	if err := connectetcd.CheckLeader(ctx, d.leads); err != nil {
		return nil, err
	}

	if req.Msg.GetTitle() == "resign" {
		go func() { _ = d.leads.Resign(context.Background()) }() // ends after this call

		for err := error(nil); err == nil; { // until other calls are refused
			sent := metadata.Pairs(leader.TokenHeader, req.Header().Get(leader.TokenHeader))
			other, cancel := context.WithTimeout(metadata.NewIncomingContext(ctx, sent),
				5*time.Millisecond)
			_, err = d.leads.Enter(other, false)
			cancel()
		}

		if !d.leads.Holds() { // the leader waits for this call
			return nil, errors.New("the leadership has ended before the call")
		}
	}

	if req.Msg.GetTitle() == "resign at once" {
		now, end := context.WithTimeout(ctx, 0)
		defer end()

		_ = d.leads.Resign(now) // an error, because calls are under way
		<-ctx.Done()

		return nil, errors.New("late")
	}

	return lentBy(d.name), nil
}

func (d desk) Follow(
	ctx context.Context,
	req *borrowRequest,
	stream *connectgo.ServerStream[connect.BorrowReply],
) error {
	if err := cmp.Or(d.leads.Check(ctx), connectetcd.CheckLeader(ctx, d.leads)); err != nil {
		return fmt.Errorf("follow: %w", err)
	}

	reply := &connect.BorrowReply{Server: d.name}
	err := stream.Send(reply)
	if req.Msg.GetTitle() == "" {
		return err
	}

	<-ctx.Done()

	for _, err := range []error{
		context.Cause(ctx),
		stream.Send(reply),
		stream.Conn().Receive(reply),
	} {
		if !errors.Is(err, leader.ErrEnded) {
			d.t.Errorf("at the end of the leadership, the cause of the context, or the error of Send or Receive, is %v, want ErrEnded", err)
		}
	}

	return nil
}

func (w *world) desk(name string) (*running, *leader.Leadership) {
	w.t.Helper()

	var leads *leader.Leadership
	s := w.serve(h2c(), func(s *connectetcd.Server) {
		leads = leader.Of(s.Unwrap(), &connectconnect.Desk_EtcdServiceDesc)
		d := desk{t: w.t, name: name, leads: leads}
		connectconnect.RegisterDeskHandlerToEtcd(s, d,
			connectetcd.WithRegisterOptions(runtime.WithInstance(name)),
			connectgo.WithInterceptors(connectetcd.NewLaneInterceptor()))
	})

	return s, leads
}

// Calls for the leader reach the leader, both unary calls and streams. An
// instance that does not lead rejects such calls. Calls under way end with the
// leadership.
func TestLeader(t *testing.T) {
	w := newWorld(t)
	_, leads := w.desk("a")
	kit.Eventually(t, "a to lead", leads.Holds)
	wantCode(t, connectetcd.CheckLeader(t.Context(), leads), connectgo.CodeInternal,
		"needs NewLaneInterceptor")

	var handled context.Context
	handle := connectetcd.NewLaneInterceptor().WrapUnary(func(
		ctx context.Context,
		_ connectgo.AnyRequest,
	) (connectgo.AnyResponse, error) {
		handled = ctx
		return nil, nil
	})

	_, err := handle(t.Context(), borrowing(""))
	if err != nil || handled.Err() == nil {
		t.Errorf("a handler has returned, error %v, but its call is still under way: the leader would wait for it", err)
	}

	b, _ := w.desk("b")
	client, err := connectconnect.NewDeskClientFromEtcd(w.registry, kit.Insecure)
	kit.Must(t, err)

	register := func(ctx context.Context) (string, error) {
		reply, err := client.Register(ctx, borrowing(""))
		if err != nil {
			return "", err
		}

		return reply.Msg.GetServer(), nil
	}

	follow := func(client connectconnect.DeskClient, req *borrowRequest) (string, error) {
		stream, err := client.Follow(kit.Context(t), req)
		kit.Must(t, err)
		stream.Receive()

		return stream.Msg().GetServer(), errors.Join(stream.Err(), stream.Close())
	}

	ctx := kit.Bounded(t, 3*kit.Soon)
	for range 5 {
		if got, err := register(ctx); err != nil || got != "a" {
			t.Errorf("Register: answered by %q, error %v, want the leader a", got, err)
		}

		got, err := follow(client, borrowing(""))
		if err != nil || got != "a" {
			t.Errorf("Follow: answered by %q, error %v, want the leader a", got, err)
		}
	}

	// A call that names b fails, and so does a call with a token to b, which
	// does not lead.
	_, err = register(runtime.WithTarget(ctx, "b"))
	wantCode(t, err, connectgo.CodeFailedPrecondition, "without runtime.WithTarget")

	direct := connectconnect.NewDeskClient(b.dial(t), "http://any", connectgo.WithGRPC())
	req := borrowing("")
	req.Header().Set(leader.TokenHeader, "1")
	req.Header().Set("etcd-leader-call", "this")
	_, err = direct.Register(ctx, req)

	// The code is not UNAVAILABLE, because retry policies name that.
	wantCode(t, err, connectgo.CodeFailedPrecondition, "does not lead")

	failed := new(connectgo.Error)
	if !errors.As(err, &failed) || failed.Meta().Get("Etcd-Leader-Refused") != "this" {
		t.Errorf("metadata of the error of b: %v, want Etcd-Leader-Refused with \"this\"",
			failed.Meta())
	}

	_, err = follow(direct, req)
	wantCode(t, err, connectgo.CodeUnavailable, "follow: ")

	_, err = client.Register(ctx, borrowing("resign"))
	kit.Must(t, err)

	if got, err := register(ctx); err != nil || got != "b" {
		t.Errorf("Register after a has resigned: answered by %q, error %v, want b", got, err)
	}

	stream, err := client.Follow(ctx, borrowing("to the end"))
	kit.Must(t, err)
	stream.Receive()

	_, err = client.Register(ctx, borrowing("resign at once"))
	wantCode(t, err, connectgo.CodeUnavailable, "no longer leads")
	stream.Receive()
	wantCode(t, stream.Err(), connectgo.CodeUnavailable, "no longer leads")
	kit.Must(t, stream.Close())
}
