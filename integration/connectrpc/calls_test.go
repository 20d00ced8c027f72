package connectrpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// Calls of each kind reach servers of either kind.
func TestKinds(t *testing.T) {
	w := newWorld(t)
	t.Run("Connect's server", func(t *testing.T) {
		w.libraries("a")
		callAll(t, w.client())
	})
	t.Run("gRPC's server", func(t *testing.T) {
		w := newWorld(t)
		w.grpcLibrary("a")
		callAll(t, w.client())
	})
	t.Run("gRPC's client", func(t *testing.T) {
		client, err := connect.NewLibraryClientFromEtcd(w.registry, plaintext)
		must(t, err)
		reply, err := client.Borrow(kit.Bounded(t, soon), &connect.BorrowRequest{})
		must(t, err)
		if reply.GetServer() != "a" {
			t.Errorf("borrowed from %q", reply.GetServer())
		}
	})
}

// grpcLibrary serves the library by gRPC.
func (w *world) grpcLibrary(name string) {
	w.t.Helper()
	lis := kit.Listen(w.t)
	s := w.newRegistry().NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	connect.RegisterLibraryServerToEtcd(s, grpcLibrary{name: name})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, lis) }()
	w.t.Cleanup(func() { stop(); must(w.t, <-served) })
	kit.Eventually(w.t, soon, "gRPC's server is registered", func() bool {
		return len(s.Status()) == 1 && s.Status()[0].State == runtime.StateRegistered
	})
}

type grpcLibrary struct {
	connect.UnimplementedLibraryServer
	name string
}

func (l grpcLibrary) Borrow(context.Context, *connect.BorrowRequest) (*connect.BorrowReply, error) {
	return &connect.BorrowReply{Server: l.name}, nil
}

func (l grpcLibrary) Search(req *connect.SearchRequest, stream grpc.ServerStreamingServer[connect.Book]) error {
	for i := range req.GetShelf() {
		if err := stream.Send(&connect.Book{Title: fmt.Sprint(l.name, i)}); err != nil {
			return err
		}
	}
	return nil
}

func (l grpcLibrary) Return(stream grpc.ClientStreamingServer[connect.Book, connect.ReturnReply]) error {
	for n := int32(0); ; n++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return stream.SendAndClose(&connect.ReturnReply{Books: n})
		} else if err != nil {
			return err
		}
	}
}

func (l grpcLibrary) Chat(stream grpc.BidiStreamingServer[connect.Book, connect.Book]) error {
	for {
		book, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(book); err != nil {
			return err
		}
	}
}

// callAll makes a call of each kind of method to the server "a".
func callAll(t *testing.T, client connectconnect.LibraryClient) {
	t.Helper()
	ctx := kit.Bounded(t, soon)
	borrowed, err := client.Borrow(ctx, connectgo.NewRequest(&connect.BorrowRequest{}))
	must(t, err)
	if borrowed.Msg.GetServer() != "a" {
		t.Errorf("Borrow: %q", borrowed.Msg.GetServer())
	}
	found, err := client.Search(ctx, connectgo.NewRequest(&connect.SearchRequest{Shelf: 3}))
	must(t, err)
	var titles []string
	for found.Receive() {
		titles = append(titles, found.Msg().GetTitle())
	}
	must(t, errors.Join(found.Err(), found.Close()))
	if want := []string{"a0", "a1", "a2"}; !slices.Equal(titles, want) {
		t.Errorf("Search: %q", titles)
	}
	giving := client.Return(ctx)
	for range 3 {
		must(t, giving.Send(&connect.Book{}))
	}
	given, err := giving.CloseAndReceive()
	must(t, err)
	if given.Msg.GetBooks() != 3 {
		t.Errorf("Return: %d", given.Msg.GetBooks())
	}
	chat := client.Chat(ctx)
	for _, title := range titles { // each answer before the next question
		must(t, chat.Send(&connect.Book{Title: title}))
		book, err := chat.Receive()
		must(t, err)
		if book.GetTitle() != title {
			t.Errorf("Chat: %q", book.GetTitle())
		}
	}
	must(t, chat.CloseRequest())
	if _, err := chat.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("Chat ends with %v", err)
	}
	must(t, chat.CloseResponse())
}

// replying is a library whose methods do what a test says.
type replying struct {
	connectconnect.UnimplementedLibraryHandler
	borrow func(context.Context, *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error)
	search func(context.Context, *connectgo.Request[connect.SearchRequest], *connectgo.ServerStream[connect.Book]) error
	giving func(context.Context, *connectgo.ClientStream[connect.Book]) (*connectgo.Response[connect.ReturnReply], error)
	chat   func(context.Context, *connectgo.BidiStream[connect.Book, connect.Book]) error
}

func (r replying) Borrow(ctx context.Context, req *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error) {
	return r.borrow(ctx, req)
}

func (r replying) Search(ctx context.Context, req *connectgo.Request[connect.SearchRequest], stream *connectgo.ServerStream[connect.Book]) error {
	return r.search(ctx, req, stream)
}

func (r replying) Return(ctx context.Context, stream *connectgo.ClientStream[connect.Book]) (*connectgo.Response[connect.ReturnReply], error) {
	return r.giving(ctx, stream)
}

func (r replying) Chat(ctx context.Context, stream *connectgo.BidiStream[connect.Book, connect.Book]) error {
	return r.chat(ctx, stream)
}

func (w *world) replying(r replying, opts ...connectgo.HandlerOption) *running {
	w.t.Helper()
	return w.serve(h2c(), func(s *connectetcd.Server) { connectconnect.RegisterLibraryHandlerToEtcd(s, r, opts...) })
}

// Headers and trailers of either kind pass both ways, as does all that an error has.
func TestMetadata(t *testing.T) {
	w := newWorld(t)
	binary := string([]byte{0, 1, 254, 255})
	fail := func() error {
		err := connectgo.NewError(connectgo.CodeFailedPrecondition, errors.New("50 % of ü\nare lent"))
		detail, wrong := connectgo.NewErrorDetail(durationpb.New(time.Minute))
		must(t, wrong)
		err.AddDetail(detail)
		err.Meta().Add("Reason", "one")
		err.Meta().Add("Reason", "two")
		err.Meta().Set("Reason-Bin", connectgo.EncodeBinaryHeader([]byte(binary)))
		return err
	}
	echo := func(from http.Header, into http.Header) {
		for _, name := range []string{"Asked", "Asked-Bin"} {
			into[name] = from[name]
		}
	}
	w.replying(replying{
		borrow: func(_ context.Context, req *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error) {
			if req.Msg.GetTitle() == "fail" {
				return nil, fail()
			}
			resp := connectgo.NewResponse(&connect.BorrowReply{Server: req.Header().Get("Grpc-Timeout")})
			echo(req.Header(), resp.Header())
			echo(req.Header(), resp.Trailer())
			return resp, nil
		},
		search: func(_ context.Context, req *connectgo.Request[connect.SearchRequest], stream *connectgo.ServerStream[connect.Book]) error {
			echo(req.Header(), stream.ResponseHeader())
			echo(req.Header(), stream.ResponseTrailer())
			if err := stream.Send(&connect.Book{}); err != nil || req.Msg.GetShelf() == 0 {
				return err
			}
			return fail()
		},
	})
	client := w.client()
	ctx := kit.Bounded(t, soon)

	wantEcho := func(what string, header http.Header) {
		t.Helper()
		got, err := connectgo.DecodeBinaryHeader(header.Get("Asked-Bin"))
		if !slices.Equal(header.Values("Asked"), []string{"one", "two"}) || err != nil || string(got) != binary {
			t.Errorf("%s: %v", what, header)
		}
	}
	ask := func(header http.Header) {
		header.Add("Asked", "one")
		header.Add("Asked", "two")
		header.Set("Asked-Bin", connectgo.EncodeBinaryHeader([]byte(binary)))
	}
	wantFail := func(what string, err error) {
		t.Helper()
		wantCode(t, err, connectgo.CodeFailedPrecondition, "50 % of ü\nare lent")
		var failed *connectgo.Error
		if !errors.As(err, &failed) {
			return
		}
		got, wrong := connectgo.DecodeBinaryHeader(failed.Meta().Get("Reason-Bin"))
		if !slices.Equal(failed.Meta().Values("Reason"), []string{"one", "two"}) || wrong != nil || string(got) != binary {
			t.Errorf("%s: %v", what, failed.Meta())
		}
		if len(failed.Details()) != 1 {
			t.Fatalf("%s: the details %v", what, failed.Details())
		}
		if detail, wrong := failed.Details()[0].Value(); wrong != nil || detail.(*durationpb.Duration).AsDuration() != time.Minute {
			t.Errorf("%s: the detail %v", what, detail)
		}
	}

	borrow := connectgo.NewRequest(&connect.BorrowRequest{})
	ask(borrow.Header())
	borrowed, err := client.Borrow(ctx, borrow)
	must(t, err)
	wantEcho("Borrow's header", borrowed.Header())
	wantEcho("Borrow's trailer", borrowed.Trailer())
	if borrowed.Msg.GetServer() == "" {
		t.Error("the server was told no timeout")
	}
	_, err = client.Borrow(ctx, connectgo.NewRequest(&connect.BorrowRequest{Title: "fail"}))
	wantFail("Borrow", err)
	for _, fails := range []bool{false, true} {
		req := connectgo.NewRequest(&connect.SearchRequest{})
		if fails {
			req.Msg.Shelf = 1
		}
		ask(req.Header())
		found, err := client.Search(ctx, req)
		must(t, err)
		wantEcho("Search's header", found.ResponseHeader())
		for found.Receive() {
		}
		if fails {
			wantFail("Search", found.Err())
		} else {
			must(t, found.Err())
			wantEcho("Search's trailer", found.ResponseTrailer())
		}
		must(t, found.Close())
	}
}

// What ends a call ends it on both sides.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	ended := make(chan error, 1)
	var borrowing atomic.Int32
	w.replying(replying{
		borrow: func(ctx context.Context, _ *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error) {
			borrowing.Add(1)
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
		search: func(ctx context.Context, _ *connectgo.Request[connect.SearchRequest], stream *connectgo.ServerStream[connect.Book]) error {
			err := stream.Send(&connect.Book{})
			<-ctx.Done()
			ended <- ctx.Err()
			return err
		},
		chat: func(ctx context.Context, stream *connectgo.BidiStream[connect.Book, connect.Book]) error {
			if book, err := stream.Receive(); err != nil || book.GetTitle() == "leave" {
				return err
			}
			err := stream.Send(&connect.Book{})
			<-ctx.Done()
			ended <- ctx.Err()
			return err
		},
	})
	client := w.client()
	over := func() {
		t.Helper()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("the handler ends with its context alive")
			}
		case <-time.After(soon):
			t.Fatal("the handler's context does not end")
		}
	}
	t.Run("deadline", func(t *testing.T) {
		for timeout := 100 * time.Millisecond; borrowing.Load() == 0; timeout *= 2 { // it may be over before the server is reached
			_, err := client.Borrow(kit.Bounded(t, timeout), connectgo.NewRequest(&connect.BorrowRequest{}))
			wantCode(t, err, connectgo.CodeDeadlineExceeded, "")
		}
		over()
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(kit.Bounded(t, soon))
		found, err := client.Search(ctx, connectgo.NewRequest(&connect.SearchRequest{}))
		must(t, err)
		if !found.Receive() {
			t.Fatal(found.Err())
		}
		cancel()
		if found.Receive() {
			t.Error("a message after the end")
		}
		wantCode(t, found.Err(), connectgo.CodeCanceled, "")
		over()
		_ = found.Close()
	})
	t.Run("a body that is never read", func(t *testing.T) {
		chat := client.Chat(kit.Bounded(t, soon))
		must(t, chat.Send(&connect.Book{}))
		must(t, chat.CloseResponse()) // with a message under way
		over()
		if err := chat.Send(&connect.Book{}); !errors.Is(err, io.EOF) {
			t.Errorf("Send after that: %v", err)
		}
	})
	t.Run("a handler that ends early", func(t *testing.T) {
		chat := client.Chat(kit.Bounded(t, soon))
		must(t, chat.Send(&connect.Book{Title: "leave"}))
		if _, err := chat.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("Receive: %v", err)
		}
		kit.Eventually(t, soon, "Send says that it is over", func() bool { return errors.Is(chat.Send(&connect.Book{}), io.EOF) })
		must(t, chat.CloseResponse())
	})
	t.Run("a context that is done", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := client.Borrow(ctx, connectgo.NewRequest(&connect.BorrowRequest{}))
		wantCode(t, err, connectgo.CodeCanceled, "")
		found, err := client.Search(ctx, connectgo.NewRequest(&connect.SearchRequest{}))
		if err == nil {
			found.Receive()
			err = errors.Join(found.Err(), found.Close())
		}
		wantCode(t, err, connectgo.CodeCanceled, "")
		chat := client.Chat(ctx)
		_, err = chat.Receive()
		wantCode(t, err, connectgo.CodeCanceled, "")
		_ = chat.CloseResponse()
	})
	t.Run("no server", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.client().Borrow(kit.Bounded(t, 100*time.Millisecond), connectgo.NewRequest(&connect.BorrowRequest{}))
		wantCode(t, err, connectgo.CodeDeadlineExceeded, "connect/library")
	})
}

// Handlers that panic or hang do not outlive their calls for the caller.
func TestHandlersThatMisbehave(t *testing.T) {
	w := newWorld(t)
	let := make(chan struct{})
	w.replying(replying{borrow: func(_ context.Context, req *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error) {
		if req.Msg.GetTitle() == "panic" {
			panic(http.ErrAbortHandler) // net/http logs no stack
		}
		<-let
		return connectgo.NewResponse(&connect.BorrowReply{}), nil
	}})
	defer close(let)
	client := w.client(runtime.WithDefaultServiceConfig(`{"methodConfig":[]}`)) // no retries
	_, err := client.Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{Title: "panic"}))
	wantCode(t, err, connectgo.CodeInternal, "")
	_, err = client.Borrow(kit.Bounded(t, 100*time.Millisecond), connectgo.NewRequest(&connect.BorrowRequest{}))
	wantCode(t, err, connectgo.CodeDeadlineExceeded, "")
}

// Messages are as large as the client's connection and Connect's own limits allow.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	large := bytes.Repeat([]byte("x"), 5<<20)
	w.replying(replying{
		search: func(_ context.Context, _ *connectgo.Request[connect.SearchRequest], stream *connectgo.ServerStream[connect.Book]) error {
			return stream.Send(&connect.Book{Content: large})
		},
		giving: func(_ context.Context, stream *connectgo.ClientStream[connect.Book]) (*connectgo.Response[connect.ReturnReply], error) {
			n := int32(0)
			for stream.Receive() {
				n += int32(len(stream.Msg().GetContent()))
			}
			return connectgo.NewResponse(&connect.ReturnReply{Books: n}), stream.Err()
		},
	})
	search := func(opts ...grpc.DialOption) (int, error) {
		found, err := w.client(opts...).Search(kit.Bounded(t, soon), connectgo.NewRequest(&connect.SearchRequest{}))
		must(t, err)
		defer func() { must(t, found.Close()) }()
		found.Receive()
		return len(found.Msg().GetContent()), found.Err()
	}
	_, err := search()
	wantCode(t, err, connectgo.CodeResourceExhausted, "larger than max")
	more := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8 << 20))
	_, err = search(more, connectetcd.WithClientOptions(connectgo.WithReadMaxBytes(1<<20)))
	wantCode(t, err, connectgo.CodeResourceExhausted, "")
	if n, err := search(more); err != nil || n != len(large) {
		t.Errorf("%d bytes: %v", n, err)
	}
	giving := w.client().Return(kit.Bounded(t, soon))
	must(t, giving.Send(&connect.Book{Content: large}))
	if given, err := giving.CloseAndReceive(); err != nil || given.Msg.GetBooks() != int32(len(large)) {
		t.Errorf("Return: %v", err)
	}
}

// Compressed requests arrive as they were, and travel compressed.
func TestCompression(t *testing.T) {
	w := newWorld(t)
	encoding := make(chan string, 1)
	w.replying(replying{
		borrow: func(_ context.Context, req *connectgo.Request[connect.BorrowRequest]) (*connectgo.Response[connect.BorrowReply], error) {
			encoding <- req.Header().Get("Grpc-Encoding")
			return connectgo.NewResponse(&connect.BorrowReply{Server: req.Msg.GetTitle()}), nil
		},
		chat: library{}.Chat,
	}, connectgo.WithCompressMinBytes(0))
	title := strings.Repeat("long ", 1000)
	for name, c := range map[string]struct {
		opts []connectgo.ClientOption
		sent string
	}{
		"none":  {nil, ""},
		"gzip":  {[]connectgo.ClientOption{connectgo.WithSendGzip()}, "gzip"},
		"small": {[]connectgo.ClientOption{connectgo.WithSendGzip(), connectgo.WithCompressMinBytes(1 << 20)}, "gzip"},
	} {
		client := w.client(connectetcd.WithClientOptions(c.opts...))
		borrowed, err := client.Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{Title: title}))
		must(t, err)
		if sent := <-encoding; borrowed.Msg.GetServer() != title || sent != c.sent {
			t.Errorf("%s: sent with %q", name, sent)
		}
		chat := client.Chat(kit.Bounded(t, soon))
		must(t, chat.Send(&connect.Book{Title: title}))
		if book, err := chat.Receive(); err != nil || book.GetTitle() != title {
			t.Errorf("%s: %v", name, err)
		}
		must(t, errors.Join(chat.CloseRequest(), chat.CloseResponse()))
	}
	// Connect's own compressor under a name that gRPC has none of.
	unknown := connectetcd.WithClientOptions(
		connectgo.WithAcceptCompression("unknown",
			func() connectgo.Decompressor { return new(gzip.Reader) }, func() connectgo.Compressor { return gzip.NewWriter(io.Discard) }),
		connectgo.WithSendCompression("unknown"))
	_, err := w.client(unknown).Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{Title: title}))
	wantCode(t, err, connectgo.CodeUnimplemented, `gRPC has no compressor "unknown"`)
	chat := w.client(unknown).Chat(kit.Bounded(t, soon))
	_ = chat.Send(&connect.Book{Title: title})
	_, err = chat.Receive()
	wantCode(t, err, connectgo.CodeUnimplemented, `gRPC has no compressor "unknown"`)
	_ = chat.CloseResponse()
}

// Requests that are not gRPC's are refused by name.
func TestOtherProtocols(t *testing.T) {
	w := newWorld(t)
	w.libraries("a")
	conn, err := w.registry.NewClient(&connectconnect.Library_EtcdServiceDesc, plaintext)
	must(t, err)
	http := connectetcd.NewHTTPClient(conn)
	for name, c := range map[string]struct {
		url  string
		opts []connectgo.ClientOption
		want string
	}{
		"Connect":      {"http://any", nil, "is of another protocol than gRPC"},
		"Connect JSON": {"http://any", []connectgo.ClientOption{connectgo.WithProtoJSON()}, "is of another protocol than gRPC"},
		"gRPC-Web":     {"http://any", []connectgo.ClientOption{connectgo.WithGRPCWeb()}, "is of another protocol than gRPC"},
		"a path":       {"http://any/api", []connectgo.ClientOption{connectgo.WithGRPC()}, `"/api/connect.Library/Borrow" is not a method`},
	} {
		client := connectconnect.NewLibraryClient(http, c.url, c.opts...)
		_, err := client.Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		chat := client.Chat(kit.Bounded(t, soon))
		_ = chat.Send(&connect.Book{})
		if _, err = chat.Receive(); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "Borrow", "Chat")) {
			t.Errorf("%s, a stream: %v", name, err)
		}
		_ = chat.CloseResponse()
	}
	// A protocol that is set after ours.
	_, err = w.client(connectetcd.WithClientOptions(connectgo.WithGRPCWeb())).Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{}))
	wantCode(t, err, connectgo.CodeUnimplemented, "is of another protocol than gRPC")
	// Another host makes no difference, and JSON is a codec of gRPC's protocol, too.
	callAll(t, connectconnect.NewLibraryClient(http, "https://elsewhere.example.com:1", connectgo.WithGRPC(), connectgo.WithProtoJSON()))
}

// Interceptors that a caller gives the connection see unary calls as such.
func TestInterceptorsOfTheConnection(t *testing.T) {
	w := newWorld(t)
	w.libraries("a")
	var seen []string
	client := w.client(
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			seen = append(seen, "unary "+method)
			if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get("refuse")) > 0 {
				return status.Error(codes.PermissionDenied, "refused")
			}
			return invoker(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			seen = append(seen, fmt.Sprint(method, " ", desc.ClientStreams, desc.ServerStreams))
			return streamer(ctx, desc, cc, method, opts...)
		}))
	callAll(t, client)
	want := []string{"unary /connect.Library/Borrow", "/connect.Library/Search false true", "/connect.Library/Return true false", "/connect.Library/Chat true true"}
	if !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
	req := connectgo.NewRequest(&connect.BorrowRequest{})
	req.Header().Set("Refuse", "1")
	_, err := client.Borrow(kit.Bounded(t, soon), req)
	wantCode(t, err, connectgo.CodePermissionDenied, "refused")
}
