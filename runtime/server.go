package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"sync"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// GRPCServer is what a [Server] needs of the server beneath: *grpc.Server has it, and
// *xds.GRPCServer.
type GRPCServer interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	GracefulStop()
	Stop()
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// Server is a gRPC server whose services are in etcd while it serves. Generated code registers and
// publishes services on it; then it is served once, by Serve or by the caller with Announce and
// Withdraw.
//
// When a service of the name grpc.health.v1.Health is registered on it (not on the gRPC server
// beneath), the entry of a service is out of etcd while the health of that service, or of the whole
// server for a service that has none, is NOT_SERVING. When none is registered, on either, Serve
// registers gRPC's own, which says SERVING for every service until the server drains. For the name
// [RegistrationHealth], gRPC's own says whether all entries are in etcd, for those who want to tie
// readiness to that.
//
// Entries carry the methods that the server serves, where their layout has room for metadata: in a
// rollout that adds a method, callers send it to the servers that have it.
type Server struct {
	registry *Registry
	grpc     GRPCServer
	opts     serverOptions

	mu            sync.Mutex
	errs          []error // what went wrong in methods that cannot say so
	published     []*publication
	gate          healthGate
	announced     bool
	everAnnounced bool // gRPC takes no more services
	served        bool
	unfollow      context.CancelFunc // ends the following of health
}

// NewServer returns a server on s, which it does not start. The caller makes s, with its
// credentials and interceptors, and leaves Serve and Stop to the Server or else uses
// [Server.Announce].
func (r *Registry) NewServer(s GRPCServer, opts ...ServerOption) *Server {
	server := &Server{
		registry: r, grpc: s,
		opts: serverOptions{drainDelay: defaultDrainDelay, stopTimeout: defaultStopTimeout},
		gate: healthGate{status: make(map[string]healthpb.HealthCheckResponse_ServingStatus)},
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&server.opts)
		}
	}
	if isNil(s) {
		server.grpc = nil
		server.errs = append(server.errs, errors.New("etcd: NewServer was given a nil gRPC server"))
	}
	if err := r.start(); err != nil {
		server.errs = append(server.errs, err)
	}
	return server
}

func isNil(v any) bool {
	return v == nil || reflect.ValueOf(v).Kind() == reflect.Pointer && reflect.ValueOf(v).IsNil()
}

// fail records an error for Serve and Announce to return.
func (s *Server) fail(err error) {
	if s.announced && s.registry != nil {
		s.registry.opts.logger.Error("misuse of an etcd server", "error", err)
	}
	s.errs = append(s.errs, err)
}

// RegisterService registers a service on the gRPC server beneath. What would end the process there
// is an error of Serve and Announce here.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc == nil {
		return // said by NewServer
	}
	if err := s.checkService(desc, impl); err != nil {
		s.fail(err)
		return
	}
	s.grpc.RegisterService(desc, impl)
	if health, ok := impl.(healthpb.HealthServer); ok && desc.ServiceName == healthpb.Health_ServiceDesc.ServiceName {
		s.gate.health = health
	}
}

func (s *Server) checkService(desc *grpc.ServiceDesc, impl any) error {
	if desc == nil {
		return errors.New("etcd: RegisterService was given a nil description")
	}
	if s.announced || s.everAnnounced {
		return fmt.Errorf("etcd: service %s is registered after the server was announced: register first", desc.ServiceName)
	}
	if _, ok := s.grpc.GetServiceInfo()[desc.ServiceName]; ok {
		return fmt.Errorf("etcd: service %s is registered twice", desc.ServiceName)
	}
	if impl == nil || desc.HandlerType == nil {
		return nil
	}
	want := reflect.TypeOf(desc.HandlerType).Elem()
	if got := reflect.TypeOf(impl); !got.Implements(want) {
		return fmt.Errorf("etcd: service %s: %v does not implement %v", desc.ServiceName, got, want)
	}
	return nil
}

// Status tells how the entries of this server stand, by key: none before it is announced.
func (s *Server) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, p := range s.published {
		if p.reg != nil {
			all = append(all, p.reg.Status())
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
