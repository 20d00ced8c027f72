// Package xds is an xDS management server: it tells gRPC clients in any language where the services in etcd are, and how to
// call them, by the keys and service configs of package runtime. Command "etcdrpc xds" runs it.
//
// A client dials "xds:///" and the authority of a service, such as xds:///acme.user, with a bootstrap file that [Bootstrap]
// writes. What the service's options and its live service config say, the server says in xDS, as far as gRPC's
// implementations of that go; docs/xds.md says what is lost.
//
//	server.go     the server
//	services.go   the services, from an image of proto files or by hand
//	bootstrap.go  what clients are started with
//	lost.go       what xDS cannot say
//	status.go     who is connected, and what is known, for people and metrics
//
// Below it, package mapping makes xDS resources of what etcd has, without I/O; catalog follows etcd, by the registry's one
// reader, and keeps the resources; ads tells them to clients.
package xds
