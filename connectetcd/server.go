package connectetcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Server is an HTTP server whose Connect services are in etcd while it serves. Generated code registers services on it;
// then it is served once, by Serve or by the caller with Announce and Withdraw. Its order is that of [runtime.Server].
//
// Callers speak the gRPC protocol, so the HTTP server must speak HTTP/2: with a certificate in its TLSConfig, or without
// TLS where its Protocols have SetUnencryptedHTTP2(true). Timeouts of the HTTP server, such as WriteTimeout, hold for
// streams, too. An HTTP server is for one Server, which shuts it down.
type Server struct {
	routes *http.ServeMux
	below  *httpServer
	server *runtime.Server
}

// NewServer returns a server on s, which it does not start. Services are registered on the *http.ServeMux that is the
// Handler of s, whose other routes are left alone; a nil Handler becomes a new one. To put middleware around the services,
// wrap the Handler after NewServer. The caller leaves Serve and Shutdown of s to the Server or else uses
// [Server.Announce]. The options are those of [runtime.Registry.NewServer].
func NewServer(registry *runtime.Registry, s *http.Server, opts ...runtime.ServerOption) *Server {
	below := &httpServer{http: s, services: make(map[string]grpc.ServiceInfo)}
	if s == nil {
		below.http = new(http.Server)
		below.fault(errors.New("connectetcd: NewServer was given a nil http.Server"))
	}
	routes := http.NewServeMux()
	switch handler := below.http.Handler.(type) {
	case nil:
		below.http.Handler = routes
	case *http.ServeMux:
		routes = handler
	default: // services are registered on routes, which is not served
		below.fault(fmt.Errorf("connectetcd: the Handler of the http.Server is a %T, in which no service can be registered: give NewServer an *http.ServeMux, and wrap the Handler after that", handler))
	}
	return &Server{routes, below, registry.NewServer(below, opts...)}
}

// Register registers a service on a server, as generated code does. newHandler is what protoc-gen-connect-go generates,
// such as greeterv1connect.NewGreeterServiceHandler. The options are those of newHandler, and [WithRegisterOptions].
// Serve and Announce return the errors.
func Register[H any](s *Server, desc *runtime.ServiceDesc, newHandler func(H, ...connect.HandlerOption) (string, http.Handler),
	impl H, opts ...connect.HandlerOption,
) {
	var registerOpts []runtime.RegisterOption
	var handlerOpts []connect.HandlerOption
	for _, opt := range opts {
		if ours, ok := opt.(registerOptions); ok {
			registerOpts = append(registerOpts, ours.opts...)
		} else if opt != nil {
			handlerOpts = append(handlerOpts, opt)
		}
	}
	s.server.Publish(desc, registerOpts...)
	if desc == nil {
		return // an error of Publish
	}
	if any(impl) == nil {
		s.below.fault(fmt.Errorf("connectetcd: service %s is registered with a nil implementation", desc.Name))
		return
	}
	s.handle(newHandler(impl, handlerOpts...))
	s.below.add(desc.Name)
}

// handle registers a handler, as http.ServeMux does, whose panic becomes an error.
func (s *Server) handle(pattern string, handler http.Handler) {
	defer func() {
		if reason := recover(); reason != nil {
			s.below.fault(fmt.Errorf("connectetcd: register %s: %v", pattern, reason))
		}
	}()
	s.routes.Handle(pattern, handler)
}

// HandleHealth registers gRPC's health service on the server, with the statuses of checker, which is asked every second.
// The entry of a service is out of etcd while the service is not serving; for a service that checker does not know, the
// whole server counts. While the server drains, its services are not serving, if checker has the method SetStatus of
// *grpchealth.StaticChecker. Without a health service the entries are in etcd while the server is announced.
func (s *Server) HandleHealth(checker grpchealth.Checker, opts ...connect.HandlerOption) {
	if checker == nil {
		s.below.fault(errors.New("connectetcd: HandleHealth was given a nil checker"))
		return
	}
	s.handle(grpchealth.NewHandler(checker, opts...))
	s.server.RegisterService(&healthpb.Health_ServiceDesc, health{checker: checker})
}

// Serve serves on lis, which it closes, until ctx ends, and keeps the published services in etcd as long, as
// [runtime.Server.Serve] does: it announces them in the background; when ctx ends it withdraws them, waits for the drain
// delay, and has the HTTP server shut down within the stop timeout. Calls that are open then are cut. Serve returns nil
// after a clean drain. It serves TLS if the http.Server has a certificate in its TLSConfig.
//
// A server is served once.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	err := s.below.err()
	if err == nil && lis != nil {
		err = checkHTTP2(s.below.http, lis)
	}
	if err != nil {
		if lis != nil {
			err = errors.Join(err, lis.Close())
		}
		return err
	}
	return s.server.Serve(ctx, lis)
}

// Announce puts the published services in etcd for a server that the caller serves: see [runtime.Server.Announce]. The
// caller sees to it that the server speaks HTTP/2.
func (s *Server) Announce(ctx context.Context, addr string) error {
	if err := s.below.err(); err != nil {
		return err
	}
	return s.server.Announce(ctx, addr)
}

// Withdraw takes the services out of etcd: see [runtime.Server.Withdraw].
func (s *Server) Withdraw(ctx context.Context) error { return s.server.Withdraw(ctx) }

// Status returns the states of the entries of this server, sorted by key: see [runtime.Server.Status].
func (s *Server) Status() []runtime.Status { return s.server.Status() }

// Unwrap returns the server beneath, for [leader.Of]. The caller registers nothing on it and does not serve it.
func (s *Server) Unwrap() *runtime.Server { return s.server }

// registerOptions is a connect.HandlerOption that Connect ignores and Register applies.
type registerOptions struct {
	connect.HandlerOption
	opts []runtime.RegisterOption
}

// WithRegisterOptions gives the entry of a service options such as runtime.WithVersion. It works when given to [Register] or a
// generated function itself, and is ignored elsewhere, also within connect.WithHandlerOptions.
func WithRegisterOptions(opts ...runtime.RegisterOption) connect.HandlerOption {
	return registerOptions{connect.WithHandlerOptions(), opts}
}

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
