package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
)

const (
	probeInterval = time.Second // between two probes
	probeTimeout  = 5 * time.Second
)

// prober asks a server whether it serves, and returns why it does not.
type prober func(ctx context.Context) error

// acceptsAt returns a prober of a server that serves while its port accepts connections.
func acceptsAt(addr string, dial transport.DialFunc) prober {
	return func(ctx context.Context) error {
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// untold are the codes of servers that tell nobody of their health, or not us.
var untold = map[codes.Code]bool{codes.Unimplemented: true, codes.Unauthenticated: true, codes.PermissionDenied: true}

// healthAt returns a prober of a server that serves while its health service says so of service. A server that does not tell serves,
// too, unless strict is set. The connection ends with ctx.
func healthAt(ctx context.Context, addr, service string, strict bool, opts []grpc.DialOption) (prober, error) {
	again := backoff.Config{BaseDelay: probeInterval / 2, Multiplier: 1, MaxDelay: probeInterval / 2}
	conn, err := grpc.NewClient("passthrough:///"+addr, append(opts, grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: probeTimeout}))...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return func(ctx context.Context) error {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		switch told := status.Convert(err); {
		case err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
			return fmt.Errorf("its health is %v", resp.GetStatus())
		case err == nil, told.Code() == codes.ResourceExhausted: // at its limit of calls, it serves
			return nil
		case !strict && untold[told.Code()] && !strings.Contains(told.Message(), "HTTP status"): // which no gRPC server sends
			return nil
		default:
			return fmt.Errorf("%v: %s%s", told.Code(), told.Message(), transport.Hint(told.Message(), "give --tls; if it does not speak gRPC, --tcp", "leave out --tls"))
		}
	}, nil
}

// follow asks until ctx ends, and calls changed when the answer is another one, at first with that of the first probe.
func (p prober) follow(ctx context.Context, changed func(problem error)) {
	for last := ""; ctx.Err() == nil; store.Pause(ctx, probeInterval) {
		probing, cancel := context.WithTimeout(ctx, probeTimeout)
		problem := p(probing)
		cancel()
		if text := fmt.Sprint(problem); text != last && ctx.Err() == nil {
			last = text
			changed(problem)
		}
	}
}
