package connectetcd

import (
	"context"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// health is a checker as the health service that a runtime.Server polls every second: Watch stays unimplemented. The
// values are comparable, for runtime.Server leaves the statuses of a checker alone that its servers share.
type health struct {
	healthpb.UnimplementedHealthServer
	checker grpchealth.Checker
}

// Check returns the checker's status. Both types give a status the same number. SERVICE_UNKNOWN has no grpchealth.Status:
// a checker returns CodeNotFound instead.
func (h health) Check(ctx context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	resp, err := h.checker.Check(ctx, &grpchealth.CheckRequest{Service: req.GetService()})
	if err != nil {
		return nil, status.Error(codes.Code(connect.CodeOf(err)), err.Error())
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_ServingStatus(resp.Status)}, nil
}

// SetServingStatus sets the status of a service if the checker can, as *grpchealth.StaticChecker does.
func (h health) SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus) {
	setter, ok := h.checker.(interface {
		SetStatus(service string, status grpchealth.Status)
	})
	if !ok {
		return
	}
	if status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		status = healthpb.HealthCheckResponse_UNKNOWN
	}
	setter.SetStatus(service, grpchealth.Status(status))
}
