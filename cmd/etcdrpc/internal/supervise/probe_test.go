package supervise

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// TestProbe_Codes has a status code say that the command is not healthy only where the service is not known.
func TestProbe_Codes(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answer atomic.Uint32
	g := grpc.NewServer(grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Code(answer.Load()), "no")
	}))
	healthpb.RegisterHealthServer(g, healthpb.UnimplementedHealthServer{})
	go func() { _ = g.Serve(lis) }()
	defer g.Stop()
	p := &prober{Probe: Probe{Addr: lis.Addr().String()}}
	defer p.close()
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		answer.Store(uint32(code))
		want := strange
		switch code {
		case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
			want = unreachable
		case codes.Unimplemented, codes.PermissionDenied, codes.Unauthenticated:
			want = untold
		case codes.NotFound:
			want = unhealthy
		case codes.ResourceExhausted:
			want = busy
		}
		if found, err := p.ask(t.Context()); found != want {
			t.Errorf("%v: %v, want %v: %v", code, found, want, err)
		}
	}
}
