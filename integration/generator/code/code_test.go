// Package code tests generated code as its users call it: its names, and the
// affinity of calls. It is separate from package generator, because generator's
// tests replace generated code: they must compile even if the generated code
// does not.
package code

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	ours "github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// The types of the generated names of a service.
var (
	_ *runtime.ServiceDesc = &basic.Greeter_EtcdServiceDesc
	_ func(
		*runtime.Registry,
		...grpc.DialOption,
	) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd

	_ func(
		*runtime.Server,
		basic.GreeterServer,
		...runtime.RegisterOption,
	) = basic.RegisterGreeterServerToEtcd
)

// calls makes clients whose interceptors answer each call and record its
// affinity.
type calls struct {
	registry *runtime.Registry
	affinity string // affinity of the last call
}

func newCalls(t *testing.T) *calls {
	t.Helper()

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	kit.Must(t, err)
	t.Cleanup(func() { client.Close() })

	c := &calls{registry: runtime.NewRegistry(client)}
	t.Cleanup(func() {
		if err := c.registry.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})

	return c
}

func clientOf[C any](
	t *testing.T,
	c *calls,
	newClient func(*runtime.Registry, ...grpc.DialOption) (C, error),
) C {
	t.Helper()

	client, err := newClient(c.registry,
		kit.Insecure,
		grpc.WithChainUnaryInterceptor(c.answer),
		grpc.WithChainStreamInterceptor(c.stream))
	kit.Must(t, err)

	return client
}

// answer intercepts a call with one response.
func (c *calls) answer(
	ctx context.Context,
	_ string,
	_, _ any,
	_ *grpc.ClientConn,
	_ grpc.UnaryInvoker,
	_ ...grpc.CallOption,
) error {
	c.affinity, _ = runtime.Affinity(ctx)
	return nil
}

// stream intercepts a call with a stream of responses.
func (c *calls) stream(
	ctx context.Context,
	_ *grpc.StreamDesc,
	_ *grpc.ClientConn,
	_ string,
	_ grpc.Streamer,
	_ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c.affinity, _ = runtime.Affinity(ctx)
	return ended{}, nil
}

// ended is a stream whose server sends nothing.
type ended struct{ grpc.ClientStream }

func (ended) SendMsg(any) error {
	return nil
}

func (ended) RecvMsg(any) error {
	return io.EOF
}

func (ended) CloseSend() error {
	return nil
}

// FuzzMeaning compares how gRPC parses a live config and the JSON that clients
// pass to gRPC for that config. If gRPC accepts both, they must mean the same.
func FuzzMeaning(f *testing.F) {
	for _, text := range append(crashing, lively...) {
		f.Add(text)
	}

	for _, text := range []string{
		`{"loadBalancingConfig":[{"nope":{}},{"round_robin":{}}]}`,
		`{"loadBalancingConfig":[]}`,
		`{"methodConfig":[]}`,
		`{"methodConfig":[{"name":[{"service":"a.B","method":"C"},{"service":"a.B"}],"waitForReady":false,"maxRequestMessageBytes":1024,"maxResponseMessageBytes":"7"}]}`,
		`{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1234}}`,
		`{"healthCheckConfig":{}}`,
		`{"loadBalancingPolicy":"pick_first","methodConfig":[{"name":[{}],"timeout":"0.1s"}]}`,
		`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`,
		`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"pick_first":{}}]}}]}`,
	} {
		f.Add(text)
	}

	parse := grpcParser(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ours.ParseLive(text)
		if err != nil {
			return
		}

		want := parse(text)
		got := parse(c.JSON())
		if got.Err != nil && !strings.Contains(got.Err.Error(), "no supported policies found") {
			t.Fatalf("live config %s becomes %s, want a config that gRPC accepts: %v",
				text, c.JSON(), got.Err)
		}

		if want.Err != nil || got.Err != nil {
			return
		}

		if diff := cmp.Diff(want.Config, got.Config, inFull, exceptText); diff != "" {
			t.Fatalf(
				"live config\n%s\nbecomes\n%s\nwant what gRPC reads the same way (-want +got):\n%s",
				text, c.JSON(), diff)
		}
	})
}

var (
	inFull = cmp.Exporter(func(reflect.Type) bool { return true })

	// exceptText ignores the JSON that gRPC keeps in a parsed config.
	exceptText = cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".rawJSONString"
	}, cmp.Ignore())
)

// grpcParser returns gRPC's parser of service configs, which gRPC gives only to
// resolvers.
func grpcParser(tb testing.TB) func(text string) *serviceconfig.ParseResult {
	found := make(chan resolver.ClientConn, 1)
	r := manual.NewBuilderWithScheme("parser")
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
		found <- cc
	}

	conn, err := grpc.NewClient("parser:///", grpc.WithResolvers(r),
		kit.Insecure)
	kit.Must(tb, err)
	tb.Cleanup(func() { conn.Close() })
	conn.Connect()

	return (<-found).ParseServiceConfig
}
