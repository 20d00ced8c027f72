package runtime

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// BenchmarkInterceptor times what a unary call passes on its way to gRPC, with a context as deep as that of a call with a
// deadline and metadata.
func BenchmarkInterceptor(b *testing.B) {
	of := &clientBuilder{desc: &ServiceDesc{Key: "acme/user"}}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "k", "v"), time.Hour)
	defer cancel()
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	for _, c := range []struct {
		name string
		ctx  context.Context
	}{{"plain", ctx}, {"target", WithTarget(ctx, "a")}, {"lane", WithLane(ctx, "red")}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := of.unary(c.ctx, "/helloworld.Greeter/SayHello", nil, nil, nil, invoker); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
