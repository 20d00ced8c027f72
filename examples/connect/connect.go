// Package connect has servers and clients of connect-go beside those of gRPC, on one key: all call all. Run it from the
// directory above:
//
//	go run . connect
//
// It starts an etcd, two catalogs on connect-go and one on gRPC, and calls them by a Connect client, by a gRPC client, and
// as a browser would. Then one of the catalogs on connect-go drains under load. It exits with 1 when a call fails, or calls
// do not go where they should.
package connect

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	shopv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1/shopv1connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "connect", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	first, err := serve(ctx, registry, "connect-1")
	if err != nil {
		return err
	}
	second, err := serve(ctx, registry, "connect-2")
	if err != nil {
		return err
	}
	if _, err := stage.Serve(ctx, "grpc-1", registry, func(server *runtime.Server) {
		shopv1.RegisterCatalogServerToEtcd(server, grpcCatalog{name: "grpc-1"})
	}); err != nil {
		return err
	}
	client, err := shopv1connect.NewCatalogClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}
	byConnect := func(ctx context.Context) (string, error) {
		found, err := client.Find(ctx, &shopv1.FindRequest{Item: "tea"})
		return found.GetServer(), err
	}
	if err := goTo(ctx, stage, "calls by connect-go", byConnect, "connect-1", "connect-2", "grpc-1"); err != nil {
		return err
	}
	grpcClient, err := shopv1.NewCatalogClientFromEtcd(registry, plaintext)
	if err != nil {
		return err
	}
	byGRPC := func(ctx context.Context) (string, error) {
		found, err := grpcClient.Find(ctx, &shopv1.FindRequest{Item: "tea"})
		return found.GetServer(), err
	}
	if err := goTo(ctx, stage, "calls by gRPC", byGRPC, "connect-1", "connect-2", "grpc-1"); err != nil {
		return err
	}
	if err := askAsBrowser(ctx, stage, first.addr); err != nil {
		return err
	}
	if err := drain(ctx, stage, first, byConnect); err != nil {
		return err
	}
	if err := goTo(ctx, stage, "then calls by connect-go", byConnect, "connect-2", "grpc-1"); err != nil {
		return err
	}
	return second.stop()
}

// catalog is a catalog on connect-go.
type catalog struct{ name string }

func (c catalog) Find(context.Context, *shopv1.FindRequest) (*shopv1.FindResponse, error) {
	return &shopv1.FindResponse{Server: c.name}, nil
}

// grpcCatalog is a catalog on gRPC.
type grpcCatalog struct {
	shopv1.UnimplementedCatalogServer
	name string
}

func (c grpcCatalog) Find(context.Context, *shopv1.FindRequest) (*shopv1.FindResponse, error) {
	return &shopv1.FindResponse{Server: c.name}, nil
}

// server is a server that serves until it is stopped.
type server struct {
	addr string
	stop func() error // drains it
}

// serve serves a catalog on connect-go.
func serve(ctx context.Context, registry *runtime.Registry, name string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)            // browsers' requests, by the Connect protocol
	protocols.SetUnencryptedHTTP2(true) // gRPC's, which clients in etcd make
	s := connectetcd.NewServer(registry, &http.Server{Protocols: &protocols, ReadHeaderTimeout: 5 * time.Second})
	shopv1connect.RegisterCatalogHandlerToEtcd(s, catalog{name}, connectetcd.WithRegisterOptions(runtime.WithInstance(name)))
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	return &server{listener.Addr().String(), func() error { cancel(); return <-served }}, nil
}

// goTo waits until calls go to exactly the named servers, and says where they go.
func goTo(ctx context.Context, stage *show.Stage, title string, call func(context.Context) (string, error), servers ...string) error {
	err := stage.Until(ctx, title, func(ctx context.Context) (bool, error) {
		shares, err := show.Count(ctx, 30, call)
		return shares.Only(servers...), err
	})
	if err != nil {
		return err
	}
	shares, err := show.Count(ctx, 900, call)
	if err != nil {
		return err
	}
	stage.Say("%s: %v", title, shares)
	return nil
}

// askAsBrowser makes a call by HTTP/1 and JSON.
func askAsBrowser(ctx context.Context, stage *show.Stage, addr string) error {
	url := "http://" + addr + shopv1connect.CatalogFindProcedure
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"item":"tea"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %w", url, resp.Status, err)
	}
	stage.Say("the same server answers %s to JSON by HTTP/1", answer)
	return nil
}

// drain stops a server while calls are made, of which none may fail.
func drain(ctx context.Context, stage *show.Stage, s *server, call func(context.Context) (string, error)) error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	for calls := 0; ; calls++ {
		select {
		case err := <-stopped:
			stage.Say("a server drained, while %d calls were made and none failed", calls)
			return err
		default:
		}
		if _, err := call(ctx); err != nil {
			return fmt.Errorf("call %d beside a server that drains: %w", calls, err)
		}
	}
}
