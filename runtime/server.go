package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// GRPCServer is the interface of the gRPC server beneath a [Server].
// *grpc.Server and *xds.GRPCServer implement it.
type GRPCServer interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	GracefulStop()
	Stop()
	GetServiceInfo() map[string]grpc.ServiceInfo
}

// Server is a gRPC server whose services are in etcd while it serves. Generated
// code registers and publishes services on it. Then call Serve, once.
// Alternatively, the application serves the gRPC server itself, and calls
// Announce and Withdraw.
//
// If a health service, grpc.health.v1.Health, is registered on the Server (not
// on the gRPC server beneath), the entry of a service is out of etcd while the
// health service reports NOT_SERVING for it. For a service that the health
// service does not know, the health of the whole server counts. If neither the
// Server nor the gRPC server beneath has a health service, Serve registers
// gRPC's own, which reports SERVING for every service until the server drains.
// But gRPC ends the process if a service is registered on a gRPC server that
// already serves. So, if the gRPC server serves another listener before Serve,
// first register a health service. Under the name [RegistrationHealth], gRPC's
// health service reports whether all entries are in etcd, for readiness probes.
//
// Entries list the methods that the server serves, if their layout carries
// metadata. In a rollout that adds a method, callers call that method on the
// servers that have it.
type Server struct {
	registry *Registry

	// nil if NewServer was given nil; Serve and Announce then return an error
	grpc GRPCServer

	opts  serverOptions
	group *registrar.Group // the server's entries and phase

	mu     sync.Mutex // held while a service is checked and registered
	health serverHealth
}

// NewServer returns a server on s, and does not start s. The application makes
// s, with credentials and interceptors. It then calls either [Server.Serve],
// which serves and stops s, or [Server.Announce], and serves and stops s
// itself.
func (r *Registry) NewServer(s GRPCServer, opts ...ServerOption) *Server {
	server := &Server{registry: r, grpc: s, opts: serverOptions{
		drainDelay:  defaultDrainDelay,
		stopTimeout: defaultStopTimeout,
	}}

	apply(&server.opts, opts)
	server.health.stopping, server.health.endWatch = context.WithCancel(
		context.Background())

	err := r.startLeasing()
	if err == nil {
		server.group = r.published.NewGroup()
	} else {
		// to return the error from Serve and Announce
		server.group = registrar.New(registrar.Config{}).NewGroup()
		server.group.Fault(err)
	}

	if g, ok := s.(*grpc.Server); s == nil || ok && g == nil {
		server.grpc = nil
		server.group.Fault(errors.New("etcd: NewServer was given a nil gRPC server"))
	}

	return server
}

// RegisterService registers a service on the gRPC server beneath. If that
// server would end the process because of misuse, such as a second
// registration, RegisterService does not register the service, and Serve and
// Announce return an error. If one of them was called before, RegisterService
// logs the error.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.grpc == nil {
		return // NewServer has recorded the error
	}

	if err := s.checkService(desc, impl); err != nil {
		s.group.Fault(err)
		return
	}

	health, ok := impl.(healthpb.HealthServer)
	if ok && desc.ServiceName == healthpb.Health_ServiceDesc.ServiceName {
		s.health.given = health
		if !reflect.ValueOf(impl).Comparable() {
			s.health.given = &struct{ healthpb.HealthServer }{health}
		}

		s.health.setter, _ = impl.(statusSetter)
		desc = s.health.ending(desc)
	}

	s.grpc.RegisterService(desc, impl)
}

// checkService returns an error if registering the service would make gRPC end
// the process.
func (s *Server) checkService(desc *grpc.ServiceDesc, impl any) error {
	if desc == nil {
		return errors.New("etcd: RegisterService was given a nil description")
	}

	if !s.group.Idle() {
		return fmt.Errorf("etcd: service %s is registered after the server was announced: register first",
			desc.ServiceName)
	}

	if _, ok := s.grpc.GetServiceInfo()[desc.ServiceName]; ok {
		return fmt.Errorf("etcd: service %s is registered twice", desc.ServiceName)
	}

	if impl == nil || desc.HandlerType == nil {
		return nil
	}

	// gRPC checks the same, and ends the process if its check fails.
	want := reflect.TypeOf(desc.HandlerType).Elem()
	if got := reflect.TypeOf(impl); !got.Implements(want) {
		return fmt.Errorf("etcd: service %s: %v does not implement %v", desc.ServiceName,
			got, want)
	}

	return nil
}

// Publish adds a service to announce. Services of one key share an entry: they
// must have the same layout and lease TTL, and the options of all of them apply
// to the entry. Generated code calls Publish. Serve and Announce return the
// errors of Publish. If one of them was called before, Publish logs its errors.
func (s *Server) Publish(desc *ServiceDesc, opts ...RegisterOption) {
	if err := s.publish(desc, opts); err != nil {
		s.group.Fault(err)
	}
}

func (s *Server) publish(desc *ServiceDesc, opts []RegisterOption) error {
	if s.registry == nil {
		return nil // NewServer has recorded the error
	}

	if err := desc.Check(); err != nil {
		return err
	}

	if _, err := desc.authority(); err != nil {
		return err
	}

	o, err := newRegisterOptions(opts)
	if err != nil {
		return fmt.Errorf("etcd: service %s: %w", desc.Name, err)
	}

	if o.layouts == nil {
		o.layouts = []endpoint.Layout{desc.layout().layout()}
	}

	ttl := cmp.Or(desc.LeaseTTL, s.registry.opts.leaseTTL)
	entry, err := registrar.NewEntry(desc.Key, o.layouts, ttl,
		s.registry.withZone(Endpoint{}), o.Details, desc.Name)
	if err != nil {
		return fmt.Errorf("etcd: service %s under the key %q: %w", desc.Name, desc.Key,
			err)
	}

	if hooks := desc.hooks(); hooks.Companion != nil {
		entry.Companion = func(e registrar.Entry, changed func()) (registrar.Companion, error) {
			// the other half of the timeout is for other calls
			return hooks.Companion(s.registry.host, e, s.opts.stopTimeout/2, changed)
		}
	}

	// clients report an invalid config
	config, err := serviceconfig.Parse(desc.ServiceConfig)
	if err == nil && config.HealthCheck != nil {
		entry.Checked = []string{config.HealthCheck.ServiceName}
	}

	if err := s.group.Publish(entry, o.Details); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}

	return nil
}

// Status returns the states of the entries of this server, sorted by key. There
// are none before Serve or Announce is called.
func (s *Server) Status() []Status {
	return statusesOf(s.group.Status())
}

const (
	defaultDrainDelay  = time.Second
	defaultStopTimeout = 20 * time.Second
)

// ServerOption configures a [Server].
type ServerOption func(*serverOptions)

type serverOptions struct {
	advertise       string
	drainDelay      time.Duration
	stopTimeout     time.Duration
	announceTimeout time.Duration
}

// WithAdvertiseAddress sets the address that is announced to callers:
// "host:port", or a host alone, which gets the listener's port. A network, such
// as "10.0.0.0/8" or "fd00::/8", stands for this host's address in it, also
// with the listener's port. Loopback addresses count only in a loopback
// network. Link-local IPv6 addresses, and addresses of interfaces that are
// down, never count. If the host has no address in the network, the
// announcement tries again each second. Several addresses in the network are an
// error. The default is the environment variable GRPC_ADVERTISE_ADDR. If that
// is not set, the default is the address of the listener or, if the listener
// listens on all addresses, the local address that this host uses to reach
// etcd.
func WithAdvertiseAddress(addr string) ServerOption {
	return func(o *serverOptions) { o.advertise = addr }
}

// WithDrainDelay sets how long a server accepts calls after its withdrawal, so
// that callers can notice the withdrawal. Default: 1 s.
func WithDrainDelay(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.drainDelay = d }
}

// WithStopTimeout sets how long open calls may take to finish when a server
// stops. After that, they are cut. Default: 20 s. Minimum: 100 ms, in which a
// server without open calls can stop.
func WithStopTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.stopTimeout = d }
}

// WithAnnounceTimeout makes Serve return an error if the services are not in
// etcd within d, or as soon as etcd refuses them. It is for processes that must
// not run unless callers can find them. The default, 0, means that Serve serves
// and keeps trying.
func WithAnnounceTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.announceTimeout = d }
}

// init lets extensions, such as package leader, look up the companions that
// they added to the entries of a registry or server.
func init() {
	extension.CompanionsOf = func(
		of any,
		key string,
	) ([]registrar.Companion, <-chan struct{}, error) {
		switch of := of.(type) {
		case *Registry:
			switch {
			case of == nil:
				return nil, nil, errNil
			case of.err != nil:
				return nil, nil, of.err
			}

			return of.published.Companions(key)

		case *Server:
			if of != nil {
				return of.group.Companions(key)
			}
		}

		return nil, nil, errors.New("the server is nil")
	}
}
