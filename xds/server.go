package xds

import (
	"errors"
	"log/slog"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	_ "google.golang.org/grpc/balancer/weightedroundrobin" // live configs may name it

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/ads"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/catalog"
)

// Server is an xDS management server. It is safe for concurrent use.
//
// Live service configs that name outlier detection are refused unless the process imports package outlierdetection.
type Server struct {
	ads     *ads.Server
	catalog *catalog.Catalog
}

// Option configures a [Server].
type Option func(*options)

type options struct{ logger *slog.Logger }

// WithLogger sets the logger for unsupported features and refused answers. It must not block, as clients would wait, nor call the server.
// Default: slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// NewServer returns a server for services, from [ReadImage] or written by the caller. Each needs an Authority, the name that
// clients dial. Equal services count once, as in images that share an import. NewServer fails if a description is invalid, if TLS
// cannot distinguish two services, or if a service config has no xDS form. It does no I/O: the server follows a service in etcd
// once a client has asked for it. The descriptions must not change. The caller closes the registry when the server has stopped.
func NewServer(registry *runtime.Registry, services []*runtime.ServiceDesc, opts ...Option) (*Server, error) {
	if registry == nil {
		return nil, errors.New("xds: the registry is nil")
	}
	services, err := checked(services)
	if err != nil {
		return nil, err
	}
	o := options{logger: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Server{}
	if s.catalog, err = catalog.New(registry, services, o.logger, func(authority string) { s.ads.Changed(authority) }); err != nil {
		return nil, err
	}
	s.ads = ads.NewServer(s.catalog, o.logger)
	return s, nil
}

// Register adds the aggregated discovery service to a gRPC server. Stopping the gRPC server ends
// the streams; clients keep their resources.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s.ads)
}

// Status is the clients, and the hosts that they have asked for.
type Status struct {
	Clients []Client // sorted by id
	Hosts   []Host   // sorted
}

type (
	// Client is a connection of a client.
	Client = ads.Client
	// Type is the state of one type of resources at a client.
	Type = ads.Type
	// Host is the services that clients dial by one name.
	Host = catalog.Host
)

// Status returns a copy of the current status.
func (s *Server) Status() Status { return Status{s.ads.Clients(), s.catalog.Hosts()} }
