// Package xds is an xDS management server. From it, gRPC clients in any
// language get the endpoints and the configuration of the services in etcd.
// Keys and service configs are those of package runtime. Command "etcdrpc xds"
// runs it.
//
//	services, err := xds.ReadImage(image) // of "buf build -o"
//	server, err := xds.NewServer(registry, services)
//	server.Register(grpcServer)
//	err = grpcServer.Serve(listener)
//
// A client dials "xds:///" and the authority of a service, such as
// xds:///acme.user, with a bootstrap file:
//
//	config, err := xds.Bootstrap(xds.BootstrapOptions{Servers: []string{"127.0.0.1:18000"}, ID: "orders-1"})
//	err = os.WriteFile("xds.json", config, 0o600) // for the variable GRPC_XDS_BOOTSTRAP
//
// The server translates the service's options and its live service config into
// xDS; docs/xds.md lists the unsupported features. Package internal/mapping
// translates services into xDS resources, without I/O; internal/catalog follows
// services in etcd, and keeps their resources; internal/ads sends them to
// clients.
package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/ads"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/catalog"
)

// Server is an xDS management server. It is safe for concurrent use.
//
// Import package outlierdetection if live service configs name outlier
// detection: otherwise the server refuses them.
type Server struct {
	ads     *ads.Server
	catalog *catalog.Catalog
}

// Option configures a [Server].
type Option func(*options)

type options struct{ logger *slog.Logger }

// WithLogger sets the logger for unsupported features and for responses that
// clients reject (NACK), slog.Default() by default. The logger's handler must
// not call the server, and must not block: clients would wait.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// NewServer returns a server for services. Their descriptions come from
// [ReadImage] or [ServiceAt], or the caller writes them. Each needs an
// Authority, the name that clients dial. NewServer ignores duplicates, which
// images with the same import have. It fails if a description is invalid, if
// TLS cannot distinguish two services, or if a service config cannot be
// expressed in xDS. The descriptions must not change later.
//
// NewServer does no I/O: the server follows a service in etcd from a client's
// first request for it. Close the registry after the server has stopped.
func NewServer(
	registry *runtime.Registry,
	services []*runtime.ServiceDesc,
	opts ...Option,
) (*Server, error) {
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
	notify := func(authority string) { s.ads.Changed(authority) }

	s.catalog, err = catalog.New(registry, services, o.logger, notify)
	if err != nil {
		return nil, err
	}

	s.ads = ads.NewServer(s.catalog, o.logger)

	return s, nil
}

// Register adds the aggregated discovery service to a gRPC server. Stopping the
// gRPC server ends the streams; clients keep their resources.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(r, s.ads)
}

// Status describes the connected clients, and the hosts that clients have asked
// for.
type Status struct {
	Clients []Client // sorted by id
	Hosts   []Host   // sorted by authority
}

type (
	// Client describes a connected client.
	Client = ads.Client

	// Type is the state of one type of resources at a client.
	Type = ads.Type

	// Host describes the services that clients dial by one authority.
	Host = catalog.Host
)

// Status returns a copy of the current status, without I/O.
func (s *Server) Status() Status {
	return Status{s.ads.Clients(), s.catalog.Hosts()}
}

// BootstrapOptions configure a client's bootstrap.
type BootstrapOptions struct {
	// Servers are the addresses of management servers, host:port, in the order
	// in which clients try them. At least one is required. Clients without
	// support for fallback use only the first:
	// https://github.com/grpc/proposal/blob/master/A71-xds-fallback.md.
	Servers []string

	// ID identifies the client, and is required. It must be unique if a policy
	// has a subset.
	ID string

	// Zone is the zone of the client, "" for none.
	Zone string

	// CA, Cert and Key are paths of PEM files: the certificates that verify the
	// servers, and the client's certificate and key, which require CA. Without
	// CA the connection to the servers is not encrypted, so the servers must be
	// on this host.
	CA, Cert, Key string
}

// Bootstrap returns the configuration with which gRPC's clients find management
// servers, as JSON. Clients read it from the file that the variable
// GRPC_XDS_BOOTSTRAP names, or from GRPC_XDS_BOOTSTRAP_CONFIG. Bootstrap does
// not read the files in o.
func Bootstrap(o BootstrapOptions) ([]byte, error) {
	switch {
	case len(o.Servers) == 0:
		return nil, errors.New("xds: a bootstrap has no server: give the address of one")
	case o.ID == "":
		return nil, errors.New("xds: a bootstrap has no id: give one for the client")
	case (o.Cert == "") != (o.Key == ""):
		return nil, errors.New(
			"xds: a certificate and its key belong together: give both or none")
	case filepath.Dir(o.Cert) != filepath.Dir(o.Key):
		return nil, errors.New("xds: the certificate and its key are in different directories, which grpc-go refuses: move them to one")
	case o.Cert != "" && o.CA == "":
		return nil, errors.New(
			"xds: the client has a certificate, but no CA to verify the servers: give one")
	}

	for _, server := range o.Servers {
		host, _, err := net.SplitHostPort(server)
		if err != nil {
			return nil, fmt.Errorf("xds: the server %q is not host:port", server)
		}

		ip, _ := netip.ParseAddr(host)
		if o.CA == "" &&
			!ip.Unmap().IsLoopback() &&
			!strings.EqualFold(host, "localhost") {
			return nil, fmt.Errorf("xds: the server %s is not on this host, so it needs TLS: give its CA, and the client's certificate and key if it asks for them", server)
		}
	}

	creds := map[string]any{"type": "insecure"}

	if o.CA != "" {
		files := map[string]string{"ca_certificate_file": o.CA}
		if o.Cert != "" {
			files["certificate_file"] = o.Cert
			files["private_key_file"] = o.Key
		}

		creds = map[string]any{"type": "tls", "config": files}
	}

	var servers []any
	for _, address := range o.Servers {
		servers = append(servers, map[string]any{
			"server_uri":      address,
			"channel_creds":   []any{creds},
			"server_features": []string{"xds_v3"},
		})
	}

	locality := map[string]string{} // grpc-js requires a locality
	if o.Zone != "" {
		locality["zone"] = o.Zone
	}

	return json.MarshalIndent(map[string]any{
		"xds_servers": servers,
		"node":        map[string]any{"id": o.ID, "locality": locality},
	}, "", "  ")
}
