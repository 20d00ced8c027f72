package network

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// serveHealth serves gRPC's health service on lis until the test ends.
func serveHealth(t testing.TB, lis net.Listener) *health.Server {
	t.Helper()
	srv, service := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(srv, service)
	served := make(chan error)
	go func() { served <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return service
}

func dialHealth(t testing.TB, dial func(context.Context, string) (net.Conn, error), opts ...grpc.DialOption) healthpb.HealthClient {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+serverAddr, append(opts, grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return healthpb.NewHealthClient(cc)
}

func wantServing(t testing.TB, c healthpb.HealthClient, opts ...grpc.CallOption) {
	t.Helper()
	resp, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}, opts...)
	if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("check: %v, %v", resp, err)
	}
}

func TestUnaryCalls(t *testing.T) {
	for name, run := range map[string]func(*testing.T, func(*testing.T)){
		"bubble":    synctest.Test,
		"wall time": func(t *testing.T, f func(*testing.T)) { f(t) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T) {
				n := New()
				serveHealth(t, listen(t, n, serverAddr))
				c := dialHealth(t, n.Dialer(client))
				for range 100 {
					wantServing(t, c)
				}
				if got := n.Connections(client, server); got != 1 {
					t.Errorf("%d connections, want 1", got)
				}
			})
		})
	}
}

func TestStalledStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		service := serveHealth(t, listen(t, n, serverAddr))
		stream, err := dialHealth(t, n.Dialer(client)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		receive := func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if resp, err := stream.Recv(); err != nil || resp.GetStatus() != want {
				t.Fatalf("received %v, %v; want %v", resp, err, want)
			}
		}
		receive(healthpb.HealthCheckResponse_SERVING)
		n.Set(client, server, Link{Stalled: true})
		service.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		start := time.Now()
		ending := time.AfterFunc(time.Hour, func() { n.Set(client, server, Link{}) })
		defer ending.Stop()
		receive(healthpb.HealthCheckResponse_NOT_SERVING)
		wantElapsed(t, start, time.Hour)
	})
}

func TestKeepaliveNoticesStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		serveHealth(t, listen(t, n, serverAddr))
		c := dialHealth(t, n.Dialer(client),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}))
		stream, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		n.Set(client, server, Link{Stalled: true})
		start := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Fatalf("stream over a stalled link ends with %v", err)
		}
		wantElapsed(t, start, 13*time.Second)
	})
}

func TestCutAndRedial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		serveHealth(t, listen(t, n, serverAddr))
		c := dialHealth(t, n.Dialer(client))
		wantServing(t, c)
		n.Set(client, server, Link{Cut: true})
		synctest.Wait()
		if _, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
			t.Fatalf("call over a cut link: %v", err)
		}
		n.Set(client, server, Link{Delay: 50 * time.Millisecond})
		wantServing(t, c, grpc.WaitForReady(true))
		start := time.Now()
		wantServing(t, c)
		wantElapsed(t, start, 100*time.Millisecond)
		n.Reset(client, server)
		synctest.Wait()
		wantServing(t, c, grpc.WaitForReady(true))
		if got := n.Connections(client, server); got != 1 {
			t.Errorf("%d connections, want 1", got)
		}
	})
}

func BenchmarkUnaryCall(b *testing.B) {
	call := func(b *testing.B, lis net.Listener, dial func(context.Context, string) (net.Conn, error)) {
		serveHealth(b, lis)
		c := dialHealth(b, dial)
		wantServing(b, c)
		b.ReportAllocs()
		for b.Loop() {
			wantServing(b, c)
		}
	}
	b.Run("network", func(b *testing.B) {
		n := New()
		call(b, listen(b, n, serverAddr), n.Dialer(client))
	})
	b.Run("bufconn", func(b *testing.B) {
		lis := bufconn.Listen(window)
		call(b, lis, func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
	})
}
