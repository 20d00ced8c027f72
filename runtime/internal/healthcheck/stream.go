package healthcheck

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// stream is the stream of a Watch within the process. Unlike gRPC's, it may be used by several goroutines, and
// after the Watch has returned.
type stream struct {
	ctx  context.Context
	send func(*healthpb.HealthCheckResponse)

	mu    sync.Mutex // held by send
	ended bool
}

var _ grpc.ServerStreamingServer[healthpb.HealthCheckResponse] = (*stream)(nil)

func (s *stream) Send(resp *healthpb.HealthCheckResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.ctx.Err() != nil {
		return status.Error(codes.Canceled, "the stream has ended")
	}
	s.send(clone(resp))
	return nil
}

// end has later sends fail.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *stream) SendMsg(m any) error {
	resp, ok := m.(*healthpb.HealthCheckResponse)
	if !ok {
		return status.Errorf(codes.Internal, "want a HealthCheckResponse, got %T", m)
	}
	return s.Send(resp)
}

func (s *stream) RecvMsg(any) error            { return io.EOF } // the request is all there is
func (s *stream) Context() context.Context     { return s.ctx }
func (s *stream) SetHeader(metadata.MD) error  { return nil }
func (s *stream) SendHeader(metadata.MD) error { return nil }
func (s *stream) SetTrailer(metadata.MD)       {}
