package connectrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// Connect clients reach servers of Connect and of gRPC, and gRPC clients reach
// servers of Connect.
func TestKinds(t *testing.T) {
	w := newWorld(t)
	t.Run("Connect's server", func(t *testing.T) {
		w.libraries("a")
		client := w.client()
		ctx := kit.Context(t)
		for range 300 { // net/http's default limit of streams is 250
			chat := client.Chat(ctx)
			kit.Must(t, chat.Send(&connect.Book{}))
			_, err := chat.Receive()
			kit.Must(t, err)
		}

		callAll(t, client)
	})

	t.Run("gRPC's server", func(t *testing.T) {
		w := newWorld(t)
		lis := kit.Listen(t)
		s := w.newRegistry().NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
		connect.RegisterLibraryServerToEtcd(s, grpcLibrary{})
		stop := kit.Run(t, func(ctx context.Context) error { return s.Serve(ctx, lis) })
		t.Cleanup(func() { kit.Must(t, stop()) })

		// gRPC's default is to repeat no more than 256 KiB
		large := &connect.BorrowRequest{Title: strings.Repeat("a", 1<<20)}
		reply, err := w.client().Borrow(kit.Context(t), connectgo.NewRequest(large))
		kit.Must(t, err)

		if reply.Msg.GetServer() != "1" {
			t.Errorf("Borrow: answered after %s repetitions, want 1", reply.Msg.GetServer())
		}
	})

	t.Run("gRPC's client", func(t *testing.T) {
		client, err := connect.NewLibraryClientFromEtcd(w.registry, kit.Insecure)
		kit.Must(t, err)
		reply, err := client.Borrow(kit.Context(t), &connect.BorrowRequest{})
		kit.Must(t, err)

		if reply.GetServer() != "a" {
			t.Errorf("Borrow: answered by %q, want \"a\"", reply.GetServer())
		}
	})
}

// grpcLibrary is a library on gRPC's server.
type grpcLibrary struct {
	connect.UnimplementedLibraryServer
}

// Borrow fails at first, and then answers how often the call was repeated.
func (grpcLibrary) Borrow(
	ctx context.Context,
	_ *connect.BorrowRequest,
) (*connect.BorrowReply, error) {
	repeated := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts")
	if repeated != nil {
		return &connect.BorrowReply{Server: repeated[0]}, nil
	}

	return nil, status.Error(codes.Unavailable, "not yet")
}

// callAll makes a call of each kind of method to the server "a".
func callAll(t *testing.T, client connectconnect.LibraryClient) {
	t.Helper()

	server, err := callEach(kit.Context(t), client)
	kit.Must(t, err)

	if server != "a" {
		t.Errorf("Borrow: answered by %q, want \"a\"", server)
	}
}

// callEach makes a call of each kind of method and returns the server that
// answered the first call.
func callEach(ctx context.Context, client connectconnect.LibraryClient) (server string, err error) {
	borrowed, err := client.Borrow(ctx, borrowing(""))
	if err != nil {
		return "", fmt.Errorf("Borrow: %w", err)
	}

	found, err := client.Search(ctx, searching(3))
	if err != nil {
		return "", fmt.Errorf("Search: %w", err)
	}

	n := int32(0)
	for found.Receive() {
		n++
	}

	if err := errors.Join(found.Err(), found.Close()); err != nil || n != 3 {
		return "", fmt.Errorf("Search: %d books, error %w, want 3 books", n, err)
	}

	giving := client.Return(ctx)
	for range 3 {
		_ = giving.Send(&connect.Book{}) // CloseAndReceive returns the error
	}

	given, err := giving.CloseAndReceive()
	if err != nil || given.Msg.GetBooks() != 3 {
		return "", fmt.Errorf("Return: reply %v, error %w, want 3 books", given, err)
	}

	chat := client.Chat(ctx)

	// The client reads each answer before it sends another message.
	for _, title := range []string{"one", "two"} {
		_ = chat.Send(&connect.Book{Title: title}) // Receive returns the error

		if book, err := chat.Receive(); err != nil || book.GetTitle() != title {
			return "", fmt.Errorf("Chat: answer %v, error %w, want the title %q", book, err, title)
		}
	}

	err = chat.CloseRequest()
	if _, end := chat.Receive(); err != nil || !errors.Is(end, io.EOF) {
		return "", fmt.Errorf("Chat ends: %w", errors.Join(err, end))
	}

	return borrowed.Msg.GetServer(), chat.CloseResponse()
}

// replying is a library whose methods the test provides.
type replying struct {
	connectconnect.UnimplementedLibraryHandler
	borrow func(context.Context, *borrowRequest) (*borrowResponse, error)
	search func(context.Context, *searchRequest, *bookStream) error
	chat   func(context.Context, *bookChat) error
}

func (r replying) Borrow(ctx context.Context, req *borrowRequest) (*borrowResponse, error) {
	return r.borrow(ctx, req)
}

func (r replying) Search(ctx context.Context, req *searchRequest, stream *bookStream) error {
	return r.search(ctx, req, stream)
}

func (r replying) Chat(ctx context.Context, stream *bookChat) error {
	return r.chat(ctx, stream)
}

func (w *world) replying(r replying, opts ...connectgo.HandlerOption) {
	w.t.Helper()

	w.serve(h2c(), func(s *connectetcd.Server) {
		connectconnect.RegisterLibraryHandlerToEtcd(s, r, opts...)
	})
}

// Text and binary headers and trailers arrive in both directions, and so does
// every part of an error.
func TestMetadata(t *testing.T) {
	w := newWorld(t)
	binary := connectgo.EncodeBinaryHeader([]byte{0, 1, 254, 255})
	asked := http.Header{"Asked": {"one", "two"}, "Asked-Bin": {binary}}
	echo := func(from, to http.Header) {
		for name := range asked {
			to[name] = from[name]
		}
	}

	w.replying(replying{search: func(
		_ context.Context,
		req *searchRequest,
		stream *bookStream,
	) error {
		if req.Msg.GetShelf() == 0 {
			echo(req.Header(), stream.ResponseHeader())
			echo(req.Header(), stream.ResponseTrailer())

			return stream.Send(&connect.Book{Title: req.Header().Get("Grpc-Timeout")})
		}

		err := connectgo.NewError(connectgo.CodeFailedPrecondition,
			errors.New("50 % of ü\nare lent"))
		detail, wrong := connectgo.NewErrorDetail(durationpb.New(time.Minute))
		kit.Must(t, wrong)
		err.AddDetail(detail)
		echo(req.Header(), err.Meta())

		return err
	}})

	client := w.client()

	same := func(what string, header http.Header) {
		t.Helper()

		if !slices.Equal(header["Asked"], asked["Asked"]) ||
			strings.TrimRight(header.Get("Asked-Bin"), "=") != binary {
			t.Errorf("%s: %v, want the request's headers %v", what, header, asked)
		}
	}
	for _, fails := range []int32{0, 1} {
		req := searching(fails)
		maps.Copy(req.Header(), asked)
		found, err := client.Search(kit.Context(t), req)
		kit.Must(t, err)

		for found.Receive() {
			if found.Msg().GetTitle() == "" {
				t.Error("the request had no header Grpc-Timeout, want the caller's timeout in it")
			}
		}

		if fails == 0 {
			kit.Must(t, found.Err())
			same("the header", found.ResponseHeader())
			same("the trailer", found.ResponseTrailer())
		} else {
			wantCode(t, found.Err(), connectgo.CodeFailedPrecondition, "50 % of ü\nare lent")

			failed := new(connectgo.Error)
			if !errors.As(found.Err(), &failed) || len(failed.Details()) != 1 {
				t.Fatalf("Search: %v, want an error with one detail", found.Err())
			}

			same("the error's metadata", failed.Meta())

			detail, wrong := failed.Details()[0].Value()
			if wrong != nil || detail.(*durationpb.Duration).AsDuration() != time.Minute {
				t.Errorf("detail of the error: %v, error %v, want a duration of 1m", detail, wrong)
			}
		}

		kit.Must(t, found.Close())
	}
}

// The context of a handler ends with the caller's deadline, when the caller
// cancels, and when it closes the response unread.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	ended := make(chan struct{}, 1)
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		ended <- struct{}{}

		return ctx.Err()
	}

	var arrived atomic.Int32
	w.replying(replying{
		borrow: func(ctx context.Context, _ *borrowRequest) (*borrowResponse, error) {
			arrived.Add(1)
			return nil, wait(ctx)
		},
		search: func(ctx context.Context, _ *searchRequest, stream *bookStream) error {
			return errors.Join(stream.Send(&connect.Book{}), wait(ctx))
		},
		chat: func(ctx context.Context, stream *bookChat) error {
			if _, err := stream.Receive(); err != nil {
				return err
			}

			return errors.Join(stream.Send(&connect.Book{}), wait(ctx))
		},
	})

	client := w.client()
	over := func() {
		t.Helper()

		select {
		case <-ended:
		case <-time.After(kit.Soon):
			t.Fatalf("the handler's context has not ended after %v", kit.Soon)
		}
	}

	t.Run("deadline", func(t *testing.T) {
		// the deadline may pass before the call reaches the server
		for timeout := 100 * time.Millisecond; arrived.Load() == 0; timeout *= 2 {
			_, err := client.Borrow(kit.Bounded(t, timeout), borrowing(""))
			wantCode(t, err, connectgo.CodeDeadlineExceeded, "")
		}

		over()
	})

	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(kit.Context(t))
		found, err := client.Search(ctx, searching(0))
		kit.Must(t, err)

		if !found.Receive() {
			t.Fatal(found.Err())
		}

		cancel()

		if found.Receive() {
			t.Error("Receive = true after the cancellation, want false")
		}

		wantCode(t, found.Err(), connectgo.CodeCanceled, "")
		over()
		_ = found.Close()
	})

	t.Run("a body that is never read", func(t *testing.T) {
		chat := client.Chat(kit.Context(t))
		kit.Must(t, chat.Send(&connect.Book{}))
		kit.Must(t, chat.CloseResponse()) // the handler's message is not read
		over()

		if err := chat.Send(&connect.Book{}); !errors.Is(err, io.EOF) {
			t.Errorf("Send after CloseResponse: %v, want EOF", err)
		}
	})
}

// A client option for a protocol other than gRPC, or for compression by
// Connect, makes calls fail. Any host in the base URL, JSON, and gRPC's gzip
// work.
func TestOtherProtocols(t *testing.T) {
	w := newWorld(t)
	w.libraries("a")

	for want, opt := range map[string]connectgo.ClientOption{
		"is of another protocol than gRPC": connectgo.WithGRPCWeb(),
		`grpc.UseCompressor("gzip")`:       connectgo.WithSendGzip(),
	} {
		client := w.client(connectetcd.WithClientOptions(opt))
		_, err := client.Borrow(kit.Context(t), borrowing(""))
		wantCode(t, err, connectgo.CodeUnimplemented, want)
		chat := client.Chat(kit.Context(t))
		_ = chat.Send(&connect.Book{})
		_, err = chat.Receive()
		wantCode(t, err, connectgo.CodeUnimplemented, want)
		_ = chat.CloseResponse()
	}

	conn, err := w.registry.NewClient(&connectconnect.Library_EtcdServiceDesc, kit.Insecure,
		grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	kit.Must(t, err)
	http := connectetcd.NewHTTPClient(conn)
	callAll(t, connectconnect.NewLibraryClient(http, "https://elsewhere.example.com:1",
		connectgo.WithGRPC(), connectgo.WithProtoJSON()))
}

// The unary interceptor of a gRPC connection sees Connect's unary calls, and
// its stream interceptor sees Connect's streams.
func TestInterceptorsOfTheConnection(t *testing.T) {
	w := newWorld(t)
	w.libraries("a")
	var seen []string
	client := w.client(
		grpc.WithUnaryInterceptor(func(
			ctx context.Context,
			method string,
			req, reply any,
			cc *grpc.ClientConn,
			invoker grpc.UnaryInvoker,
			opts ...grpc.CallOption,
		) error {
			seen = append(seen, "unary "+method)

			if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get("refuse")) > 0 {
				return status.Error(codes.PermissionDenied, "refused")
			}

			return invoker(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(
			ctx context.Context,
			desc *grpc.StreamDesc,
			cc *grpc.ClientConn,
			method string,
			streamer grpc.Streamer,
			opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			seen = append(seen, fmt.Sprint(method, " ", desc.ClientStreams, desc.ServerStreams))
			return streamer(ctx, desc, cc, method, opts...)
		}))

	callAll(t, client)

	want := []string{"unary /connect.Library/Borrow", "/connect.Library/Search false true",
		"/connect.Library/Return true false", "/connect.Library/Chat true true"}
	if !slices.Equal(seen, want) {
		t.Errorf("the interceptors saw %q, want %q", seen, want)
	}

	req := borrowing("")
	req.Header().Set("Refuse", "1")
	_, err := client.Borrow(kit.Context(t), req)
	wantCode(t, err, connectgo.CodePermissionDenied, "refused")
}

// Closing a registry ends the streams of its clients, even a stream that nobody
// reads, and makes Send fail.
func TestRegistryCloses(t *testing.T) {
	w := newWorld(t)
	w.replying(replying{
		search: func(ctx context.Context, _ *searchRequest, stream *bookStream) error {
			large := &connect.Book{Content: make([]byte, 1<<20)}
			for ctx.Err() == nil { // send faster than any client reads
				if err := stream.Send(large); err != nil {
					return err
				}
			}

			return ctx.Err()
		},
		chat: library{}.Chat,
	})

	client := w.client()
	unread, err := client.Search(kit.Context(t), searching(0))
	kit.Must(t, err)

	if !unread.Receive() {
		t.Fatal(unread.Err())
	}

	chat := client.Chat(kit.Context(t))
	kit.Must(t, chat.Send(&connect.Book{}))
	_, err = chat.Receive()
	kit.Must(t, err)
	kit.Must(t, w.registry.Close(kit.Context(t)))
	kit.Eventually(t, "Send returns EOF", func() bool {
		return errors.Is(chat.Send(&connect.Book{}), io.EOF)
	})

	if _, err := chat.Receive(); connectgo.CodeOf(err) != connectgo.CodeCanceled &&
		connectgo.CodeOf(err) != connectgo.CodeUnavailable {
		t.Errorf("Receive after Close: %v, want Canceled or Unavailable", err)
	}

	for unread.Receive() {
	}

	if unread.Err() == nil {
		t.Error("the unread stream ended without an error, want one")
	}

	_, err = client.Borrow(kit.Context(t), borrowing(""))
	wantCode(t, err, connectgo.CodeCanceled, "closing")
}
