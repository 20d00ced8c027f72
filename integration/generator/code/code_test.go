// Package code tests generated code as its users call it: its names, and the affinity of calls. It is a separate
// package so that generated code that does not compile cannot keep the generator's tests from writing new code.
package code

import (
	"context"
	"io"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// The names of a service and their types.
var (
	_ *runtime.ServiceDesc                                                     = &basic.Greeter_EtcdServiceDesc
	_ func(*runtime.Registry, ...grpc.DialOption) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd
	_ func(*runtime.Server, basic.GreeterServer, ...runtime.RegisterOption)    = basic.RegisterGreeterServerToEtcd
)

// calls makes clients whose calls return at once, without a server.
type calls struct {
	registry *runtime.Registry
	affinity string // of the last call
}

func newCalls(t *testing.T) *calls {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c := &calls{registry: runtime.NewRegistry(client)}
	t.Cleanup(func() {
		if err := c.registry.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func clientOf[C any](t *testing.T, c *calls, newClient func(*runtime.Registry, ...grpc.DialOption) (C, error)) C {
	t.Helper()
	client, err := newClient(c.registry, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
			c.affinity, _ = runtime.Affinity(ctx)
			return nil
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ grpc.Streamer, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			c.affinity, _ = runtime.Affinity(ctx)
			return ended{}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ended is a stream whose server sends nothing.
type ended struct{ grpc.ClientStream }

func (ended) SendMsg(any) error { return nil }
func (ended) RecvMsg(any) error { return io.EOF }
func (ended) CloseSend() error  { return nil }

// unary makes a call of a method with one reply.
func unary[Q, R any](method func(context.Context, Q, ...grpc.CallOption) (R, error), request Q) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := method(ctx, request)
		return err
	}
}
