package connectetcd

import (
	"context"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// newHealth returns a checker as the health service that a runtime.Server follows. The statuses of the two have the same
// numbers, save SERVICE_UNKNOWN, which a checker has no other word for than unknown.
func newHealth(checker grpchealth.Checker) healthpb.HealthServer {
	h := health{checker: checker}
	if setter, ok := checker.(statusSetter); ok {
		return settableHealth{h, setter}
	}
	return h
}

type health struct {
	healthpb.UnimplementedHealthServer
	checker grpchealth.Checker
}

func (h health) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	resp, err := h.checker.Check(ctx, &grpchealth.CheckRequest{Service: req.GetService()})
	if err != nil {
		return nil, toStatus(err)
	}
	if resp == nil {
		return nil, status.Errorf(codes.Internal, "connectetcd: the grpchealth.Checker returned neither a status nor an error for service %q: return one", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_ServingStatus(resp.Status)}, nil
}

// Watch sends each status of a checker that can be watched. One that cannot, or does not know the service, is asked by Check
// every second.
func (h health) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	watcher, ok := h.checker.(grpchealth.Watcher)
	if !ok {
		return status.Error(codes.Unimplemented, "connectetcd: the grpchealth.Checker is no grpchealth.Watcher")
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // the first status
	stop, err := watcher.Watch(stream.Context(), &grpchealth.CheckRequest{Service: req.GetService()}, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	switch {
	case connect.CodeOf(err) == connect.CodeNotFound: // Check says so, too, and that it is no fault
		return status.Error(codes.Unimplemented, err.Error())
	case err != nil:
		return toStatus(err)
	}
	defer stop()
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		}
		resp, err := h.Check(stream.Context(), req)
		switch {
		case status.Code(err) == codes.NotFound:
			resp = &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVICE_UNKNOWN}
		case err != nil:
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// statusSetter is implemented by *grpchealth.StaticChecker.
type statusSetter interface {
	SetStatus(service string, status grpchealth.Status)
}

// settableHealth is health whose status runtime.Server can set.
type settableHealth struct {
	health
	setter statusSetter
}

func (h settableHealth) SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus) {
	if status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		status = healthpb.HealthCheckResponse_UNKNOWN
	}
	h.setter.SetStatus(service, grpchealth.Status(status))
}
