package code

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinity"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityapi"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityproto2"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/oldgrpc"
)

// Clients that take the affinity of their calls from the requests.

// The headers in which a server tells who it is and what it was sent.
const (
	instanceHeader = "instance"
	sentHeader     = "sent"
)

// serveAll starts a server for all services, and returns when it is in etcd.
func serveAll(t *testing.T, registry *runtime.Registry, name string) {
	t.Helper()
	lis := kit.Listen(t)
	g := grpc.NewServer(grpc.UnaryInterceptor(answer(name)), grpc.StreamInterceptor(answerStream(name)))
	server := registry.NewServer(g)
	instance := runtime.WithInstance(name)
	affinity.RegisterKindsServerToEtcd(server, affinity.UnimplementedKindsServer{}, instance)
	affinity.RegisterPlacesServerToEtcd(server, affinity.UnimplementedPlacesServer{}, instance)
	affinityproto2.RegisterDefaultsServerToEtcd(server, affinityproto2.UnimplementedDefaultsServer{}, instance)
	affinityapi.RegisterOpaqueServerToEtcd(server, affinityapi.UnimplementedOpaqueServer{}, instance)
	affinityapi.RegisterHybridServerToEtcd(server, affinityapi.UnimplementedHybridServer{}, instance)
	oldgrpc.RegisterServiceServerToEtcd(server, oldgrpc.UnimplementedServiceServer{}, instance)

	kit.Serve(t, g, lis)
	must(t, server.Announce(within(t, soon), lis.Addr().String()))
}

// answer answers for every method: the empty message is one of every type.
func answer(name string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return new(emptypb.Empty), grpc.SetHeader(ctx, told(ctx, name))
	}
}

func answerStream(name string) grpc.StreamServerInterceptor {
	return func(_ any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
		return stream.SetHeader(told(stream.Context(), name))
	}
}

// told is what a server tells of a call.
func told(ctx context.Context, name string) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	var sent []string
	for key, values := range md {
		sent = append(sent, key+"="+strings.Join(values, ","))
	}
	return metadata.MD{instanceHeader: {name}, sentHeader: sent}
}

// seen is what is known of the last call.
type seen struct {
	affinity string      // of the client's context
	header   metadata.MD // from the server
}

func (s *seen) instance() string { return strings.Join(s.header[instanceHeader], ",") }

// options are those of clients that note their calls.
func (s *seen) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			*s = seen{}
			s.affinity, _ = runtime.Affinity(ctx)
			return invoker(ctx, method, in, out, cc, append(opts, grpc.Header(&s.header))...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			*s = seen{}
			s.affinity, _ = runtime.Affinity(ctx)
			return streamer(ctx, desc, cc, method, append(opts, grpc.Header(&s.header))...)
		}),
	}
}

// noted makes a client that notes its calls.
func noted[C any](t *testing.T, registry *runtime.Registry, s *seen, newClient func(*runtime.Registry, ...grpc.DialOption) (C, error)) C {
	t.Helper()
	c, err := newClient(registry, s.options()...)
	must(t, err)
	return c
}

// unary makes a call of a method with one reply.
func unary[Q, R any](method func(context.Context, Q, ...grpc.CallOption) (R, error), request Q) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := method(ctx, request)
		return err
	}
}

// stream makes a call of a method with a stream of replies, to its end.
func stream[Q any, R interface{ Recv() (M, error) }, M any](method func(context.Context, Q, ...grpc.CallOption) (R, error), request Q) func(context.Context) error {
	return func(ctx context.Context) error {
		replies, err := method(ctx, request)
		if err != nil {
			return err
		}
		return ended(replies.Recv())
	}
}

func ended(_ any, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return errors.Join(errors.New("the stream has not ended"), err)
}
