package connectetcd

import (
	"cmp"
	"context"
	"crypto/tls"
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
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Server is an HTTP server whose Connect services are in etcd while it serves.
// First register services, by generated code. Then call Serve once, or serve
// the HTTP server by other means and call Announce and Withdraw, as with
// [runtime.Server].
//
// Callers speak the gRPC protocol, so the HTTP server must speak HTTP/2: with a
// certificate in its TLSConfig, or without TLS if SetUnencryptedHTTP2(true) was
// called on its Protocols. Timeouts of the HTTP server, such as WriteTimeout,
// apply to streams, too. Each Server needs its own HTTP server, which it shuts
// down.
type Server struct {
	routes *http.ServeMux
	below  *httpServer
	server *runtime.Server
}

// NewServer returns a server for s. The options are as in
// [runtime.Registry.NewServer]. Do not call Serve and Shutdown of s, unless you
// use [Server.Announce] in place of [Server.Serve].
//
// Services are registered on the Handler of s, which must be an *http.ServeMux
// or nil: NewServer panics for another Handler. The other routes of the
// ServeMux stay, and NewServer replaces nil by a new ServeMux. To put
// middleware around the services, wrap the Handler after NewServer.
//
// All calls of a caller share one connection, so NewServer raises two defaults
// of net/http: MaxConcurrentStreams becomes 10,000, and
// MaxReceiveBufferPerConnection 4 MiB. A slow upload may fill the buffer of its
// stream, 1 MiB by default. It does not block other calls while the
// connection's buffer is larger. NewServer changes only fields of HTTP2 that
// are 0, and none if TLSNextProto of s is set.
func NewServer(
	registry *runtime.Registry,
	s *http.Server,
	opts ...runtime.ServerOption,
) *Server {
	if s.Handler == nil {
		s.Handler = http.NewServeMux()
	}

	routes, ok := s.Handler.(*http.ServeMux)
	if !ok {
		panic(fmt.Sprintf("connectetcd: the Handler of the http.Server is a %T, in which no service can be registered: give NewServer an *http.ServeMux, and wrap it afterwards",
			s.Handler))
	}

	if s.TLSNextProto == nil {
		// a copy, because other servers may share the config
		config := *cmp.Or(s.HTTP2, new(http.HTTP2Config))
		s.HTTP2 = &config

		// net/http also limits resets of streams by this value
		config.MaxConcurrentStreams = cmp.Or(config.MaxConcurrentStreams, 10_000)

		// the most that net/http accepts
		buffer := cmp.Or(config.MaxReceiveBufferPerConnection, 4<<20-1)
		config.MaxReceiveBufferPerConnection = buffer
	}

	below := &httpServer{s, make(map[string]grpc.ServiceInfo)}

	return &Server{routes, below, registry.NewServer(below, opts...)}
}

// Register registers a service on a server, as generated code does. newHandler
// is a constructor of protoc-gen-connect-go, such as
// greeterv1connect.NewGreeterServiceHandler. opts may have the options of
// newHandler, and [WithRegisterOptions]. Serve and Announce return an error if
// an option is invalid. A service that is registered twice makes the ServeMux
// panic.
func Register[H any](
	s *Server,
	desc *runtime.ServiceDesc,
	newHandler func(H, ...connect.HandlerOption) (string, http.Handler),
	impl H,
	opts ...connect.HandlerOption,
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
	s.routes.Handle(newHandler(impl, handlerOpts...))
	s.server.RegisterService(&grpc.ServiceDesc{ServiceName: desc.Name}, impl)
}

// HandleHealth registers gRPC's health service on the server, with the statuses
// of checker, and asks checker every second. The entry of a service is out of
// etcd while its status is not serving. If checker does not know a service, the
// status of the whole server, named "", counts. Without a health service,
// entries are in etcd as long as the server is announced.
//
// If checker has the method SetStatus of *grpchealth.StaticChecker, a drain
// sets the statuses of the server's services to not serving.
func (s *Server) HandleHealth(checker grpchealth.Checker, opts ...connect.HandlerOption) {
	s.routes.Handle(grpchealth.NewHandler(checker, opts...))
	s.server.RegisterService(&healthpb.Health_ServiceDesc, health{checker: checker})
}

// Serve serves on lis until ctx ends, and keeps the registered services in etcd
// until then, as [runtime.Server.Serve] does. It announces them in the
// background. When ctx ends, Serve withdraws them, waits for the drain delay (1
// s by default), and calls the HTTP server's Shutdown. After the stop timeout
// (20 s by default) it calls Close, which cuts open calls.
//
// Serve serves TLS if the TLSConfig has a certificate: lis must then not be a
// TLS listener. Serve closes lis, and returns nil after a clean drain. Serve
// can be called once.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if err := checkHTTP2(s.below.http, lis); err != nil {
		return errors.Join(err, lis.Close())
	}

	return s.server.Serve(ctx, lis)
}

// Announce puts the registered services in etcd for a server that the caller
// serves: see [runtime.Server.Announce]. That server must speak HTTP/2. addr is
// the address of its listener, host:port.
func (s *Server) Announce(ctx context.Context, addr string) error {
	return s.server.Announce(ctx, addr)
}

// Withdraw removes the services from etcd: see [runtime.Server.Withdraw].
func (s *Server) Withdraw(ctx context.Context) error {
	return s.server.Withdraw(ctx)
}

// Status returns the states of the entries of this server, sorted by key: see
// [runtime.Server.Status].
func (s *Server) Status() []runtime.Status {
	return s.server.Status()
}

// Unwrap returns the underlying server, for leader.Of. Do not register services
// on it, and do not serve it.
func (s *Server) Unwrap() *runtime.Server {
	return s.server
}

// registerOptions is a connect.HandlerOption that Connect ignores and Register
// applies.
type registerOptions struct {
	connect.HandlerOption
	opts []runtime.RegisterOption
}

// WithRegisterOptions sets options of a service's entry, such as
// runtime.WithVersion. Pass it to [Register] or a generated function directly:
// elsewhere, also within connect.WithHandlerOptions, it is ignored.
func WithRegisterOptions(opts ...runtime.RegisterOption) connect.HandlerOption {
	return registerOptions{connect.WithHandlerOptions(), opts}
}

// health adapts a checker to gRPC's health service, which a runtime.Server
// polls every second. Watch stays unimplemented. Values of health are
// comparable, so that runtime.Server notices if several servers share a
// checker: the drain of a server then does not change the statuses of services
// that others serve.
type health struct {
	healthpb.UnimplementedHealthServer
	checker grpchealth.Checker
}

// Check returns the checker's status: Connect and gRPC number the statuses
// alike. For an unknown service, a checker returns CodeNotFound in place of
// SERVICE_UNKNOWN.
func (h health) Check(
	ctx context.Context,
	req *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	resp, err := h.checker.Check(ctx, &grpchealth.CheckRequest{Service: req.GetService()})
	if err != nil {
		return nil, status.Error(codes.Code(connect.CodeOf(err)), err.Error())
	}

	return &healthpb.HealthCheckResponse{
		Status: healthpb.HealthCheckResponse_ServingStatus(resp.Status),
	}, nil
}

// SetServingStatus sets the status of a service if the checker has a method for
// that, as *grpchealth.StaticChecker has.
func (h health) SetServingStatus(
	service string,
	status healthpb.HealthCheckResponse_ServingStatus,
) {
	setter, ok := h.checker.(interface {
		SetStatus(service string, status grpchealth.Status)
	})
	if ok {
		setter.SetStatus(service, grpchealth.Status(status))
	}
}

// httpServer adapts an HTTP server to runtime.GRPCServer, the interface of the
// servers that a runtime.Server serves.
type httpServer struct {
	http     *http.Server
	services map[string]grpc.ServiceInfo // the lock of the runtime.Server guards it
}

// RegisterService records a service with the methods of its descriptor. The
// ServeMux serves it. RegisterService ignores a service without a linked
// descriptor: callers then assume that the service has every method.
func (s *httpServer) RegisterService(desc *grpc.ServiceDesc, _ any) {
	name := protoreflect.FullName(desc.ServiceName)
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(name) // nil without one

	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return
	}

	var info grpc.ServiceInfo
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: string(method.Name())})
	}

	s.services[desc.ServiceName] = info
}

func (s *httpServer) GetServiceInfo() map[string]grpc.ServiceInfo {
	return s.services
}

// Serve serves on lis, and closes it. runtime.Server ignores
// grpc.ErrServerStopped after it has stopped the server itself.
func (s *httpServer) Serve(lis net.Listener) error {
	defer lis.Close() // http.Server does not if HTTP/2 cannot be configured

	var err error
	if hasCertificate(s.http.TLSConfig) {
		err = s.http.ServeTLS(lis, "", "")
	} else {
		err = s.http.Serve(lis)
	}

	if errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("connectetcd: the http.Server was shut down before the context of Serve ended: %w (%w)",
			err, grpc.ErrServerStopped)
	}

	return err
}

// GracefulStop waits for the calls that net/http's own Shutdown waits for.
func (s *httpServer) GracefulStop() {
	// An error means that a listener was already closed.
	_ = s.http.Shutdown(context.Background())
}

// Stop cuts open calls.
func (s *httpServer) Stop() {
	// An error means that a listener was already closed.
	_ = s.http.Close()
}

// checkHTTP2 returns an error if the server would serve only HTTP/1 on a
// listener without TLS.
func checkHTTP2(s *http.Server, lis net.Listener) error {
	_, isTCP := lis.(*net.TCPListener) // other types may hide a TLS listener
	unencrypted := s.Protocols != nil && s.Protocols.UnencryptedHTTP2()

	if !isTCP || unencrypted || hasCertificate(s.TLSConfig) {
		return nil
	}

	return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: set a certificate in its TLSConfig or, without TLS, call SetUnencryptedHTTP2(true) on its Protocols instead of h2c.NewHandler")
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 ||
		c.GetCertificate != nil ||
		c.GetConfigForClient != nil)
}
