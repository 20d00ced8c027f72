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

// prober checks whether a server serves, and returns why it does not.
type prober func(ctx context.Context) error

// prober returns the prober selected by the flags. Unless strict is set, a server without a health
// status counts as serving. The connection to the server ends with ctx.
func (o *registerOptions) prober(ctx context.Context, dial transport.DialFunc, key string, strict bool) (prober, error) {
	if o.tcp {
		return func(ctx context.Context) error {
			conn, err := dial(ctx, "tcp", o.probe)
			if err != nil {
				return err
			}
			return conn.Close()
		}, nil
	}
	opts, err := o.transport.Options(key, dial)
	if err != nil {
		return nil, err
	}
	again := backoff.Config{BaseDelay: probeInterval / 2, Multiplier: 1, MaxDelay: probeInterval / 2}
	conn, err := grpc.NewClient("passthrough:///"+o.probe, append(opts, grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: probeTimeout}))...)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return func(ctx context.Context) error {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: o.health})
		return problemOf(resp.GetStatus(), status.Convert(err), strict)
	}, nil
}

// untold are the codes of servers without a health service, or with one that denies access.
var untold = map[codes.Code]bool{codes.Unimplemented: true, codes.Unauthenticated: true, codes.PermissionDenied: true}

// problemOf returns why a server does not serve, given the answer of its health service.
func problemOf(health healthpb.HealthCheckResponse_ServingStatus, answer *status.Status, strict bool) error {
	switch code := answer.Code(); {
	case code == codes.OK && health != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("its health is %v", health)
	case code == codes.OK, code == codes.ResourceExhausted: // a server at its limit of calls serves
		return nil
	case !strict && untold[code] && !strings.Contains(answer.Message(), "HTTP status"): // gRPC servers do not send that text
		return nil
	default:
		return fmt.Errorf("%v: %s%s", code, answer.Message(), transport.Hint(answer.Message(), "give --tls; if it does not speak gRPC, --tcp", "leave out --tls"))
	}
}

// follow probes until ctx ends, and calls changed with the first result, and with each that differs from the previous one.
func follow(ctx context.Context, ask prober, changed func(problem error)) {
	for last := ""; ctx.Err() == nil; store.Pause(ctx, probeInterval) {
		probing, cancel := context.WithTimeout(ctx, probeTimeout)
		problem := ask(probing)
		cancel()
		if text := fmt.Sprint(problem); text != last && ctx.Err() == nil {
			last = text
			changed(problem)
		}
	}
}
