// Package connectrpc tests Connect clients and servers on a real etcd, together
// with gRPC's.
package connectrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// etcd is shared by the tests. Each test has its own namespace.
var etcd *etcdtest.Cluster

func TestMain(m *testing.M) {
	os.Exit(kit.OnEtcd(m, &etcd))
}

// A world is a namespace of etcd with its own registries.
type world struct {
	t         *testing.T
	namespace string
	logs      kit.Logs
	registry  *runtime.Registry
}

func newWorld(t *testing.T) *world {
	t.Helper()

	t.Cleanup(func() {
		if strings.Contains(t.Name(), "/") {
			return // the parent test still has goroutines
		}

		leak.None(t, "github.com/etcdrpc/protoc-gen-go-etcd/connectetcd.")
	})

	w := &world{t: t, namespace: t.Name() + "/"}
	w.registry = w.newRegistry()

	return w
}

// newRegistry returns a registry with its own etcd client, as another process
// has.
func (w *world) newRegistry() *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, &w.logs, etcd.Client(w.t), runtime.WithNamespace(w.namespace))
}

// client returns a client of the library.
func (w *world) client(opts ...grpc.DialOption) connectconnect.LibraryClient {
	w.t.Helper()

	client, err := connectconnect.NewLibraryClientFromEtcd(w.registry,
		append([]grpc.DialOption{kit.Insecure}, opts...)...)
	kit.Must(w.t, err)

	return client
}

// The types of the library's methods.
type (
	borrowRequest  = connectgo.Request[connect.BorrowRequest]
	borrowResponse = connectgo.Response[connect.BorrowReply]
	searchRequest  = connectgo.Request[connect.SearchRequest]
	bookStream     = connectgo.ServerStream[connect.Book]
	bookChat       = connectgo.BidiStream[connect.Book, connect.Book]
)

// borrowing returns a request for a book.
func borrowing(title string) *borrowRequest {
	return connectgo.NewRequest(&connect.BorrowRequest{Title: title})
}

// lentBy returns the answer of a server to such a request.
func lentBy(server string) *borrowResponse {
	return connectgo.NewResponse(&connect.BorrowReply{Server: server})
}

// searching returns a request for the books of a shelf.
func searching(shelf int32) *searchRequest {
	return connectgo.NewRequest(&connect.SearchRequest{Shelf: shelf})
}

// h2c returns an HTTP server that speaks HTTP/2 without TLS.
func h2c() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)

	return &http.Server{Protocols: &protocols}
}

// running is a server that serves until it is stopped or the test ends.
type running struct {
	*connectetcd.Server
	addr string
	stop func() error // drains the server and returns Serve's error
}

// dial returns an HTTP client that reaches this server, whatever etcd has.
func (r *running) dial(t *testing.T) connectgo.HTTPClient {
	t.Helper()

	conn, err := grpc.NewClient(r.addr, kit.Insecure)
	kit.Must(t, err)
	t.Cleanup(func() { conn.Close() })

	return connectetcd.NewHTTPClient(conn)
}

// serve starts a server of the services that register adds, and returns once
// etcd has their entries.
func (w *world) serve(
	s *http.Server,
	register func(*connectetcd.Server),
	opts ...runtime.ServerOption,
) *running {
	w.t.Helper()
	return w.serveOf(w.newRegistry(), s, register, opts...)
}

// serveOf does the same as serve, with the given registry.
func (w *world) serveOf(
	registry *runtime.Registry,
	s *http.Server,
	register func(*connectetcd.Server),
	opts ...runtime.ServerOption,
) *running {
	w.t.Helper()

	server := connectetcd.NewServer(registry, s,
		append([]runtime.ServerOption{runtime.WithDrainDelay(10 * time.Millisecond)}, opts...)...)
	register(server)
	lis := kit.Listen(w.t)
	stop := kit.Run(w.t, func(ctx context.Context) error { return server.Serve(ctx, lis) })
	kit.Registered(w.t, server)

	return &running{server, lis.Addr().String(), stop}
}

// libraries starts a library server for each name, which is also its instance
// id.
func (w *world) libraries(names ...string) (servers []*running) {
	w.t.Helper()

	for _, name := range names {
		servers = append(servers, w.serve(h2c(), func(s *connectetcd.Server) {
			connectconnect.RegisterLibraryHandlerToEtcd(s, library{name: name},
				connectetcd.WithRegisterOptions(runtime.WithInstance(name)))
		}))
	}

	return servers
}

// library is a server that answers with its name.
type library struct {
	connectconnect.UnimplementedLibraryHandler
	name string
}

func (l library) Borrow(_ context.Context, req *borrowRequest) (*borrowResponse, error) {
	return lentBy(l.name), nil
}

// Search sends n books for the shelf number n.
func (l library) Search(_ context.Context, req *searchRequest, stream *bookStream) error {
	for i := range req.Msg.GetShelf() {
		if err := stream.Send(&connect.Book{Title: fmt.Sprint(l.name, i)}); err != nil {
			return err
		}
	}

	return nil
}

func (l library) Return(
	_ context.Context,
	stream *connectgo.ClientStream[connect.Book],
) (*connectgo.Response[connect.ReturnReply], error) {
	n := int32(0)
	for stream.Receive() {
		n++
	}

	return connectgo.NewResponse(&connect.ReturnReply{Books: n}), stream.Err()
}

// Chat sends back each book that it receives.
func (l library) Chat(_ context.Context, stream *bookChat) error {
	for {
		book, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}

		if err := errors.Join(err, stream.Send(book)); err != nil {
			return err
		}
	}
}

// wantCode fails the test unless err has the code of Connect and contains the
// text.
func wantCode(t *testing.T, err error, code connectgo.Code, text string) {
	t.Helper()

	if err == nil || connectgo.CodeOf(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v, want code %v with %q", err, code, text)
	}
}
