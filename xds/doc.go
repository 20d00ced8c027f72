// Package xds is an xDS management server: it serves gRPC clients in any language the endpoints and the configuration
// of the services in etcd, by the keys and service configs of package runtime. Command "etcdrpc xds" runs it.
//
// A client dials "xds:///" and the authority of a service, such as xds:///acme.user, with a bootstrap file that [Bootstrap]
// writes. The server translates the service's options and its live service config into xDS; docs/xds.md lists the unsupported features.
//
//	server.go     the server, and its status
//	services.go   the services, from an image of proto files or by hand, and their features that xDS lacks
//	bootstrap.go  the configuration of clients
//
// Package mapping translates services into xDS resources, without I/O; catalog follows services by the registry, and keeps their
// resources; ads sends the resources to clients.
package xds
