// Package connectetcd lets clients and servers of connect-go use the same etcd keys as those of gRPC.
//
// A client is a [connect.HTTPClient] over a gRPC connection of the registry, so all that the registry's connections do
// holds for it: the load balancing policy, live configs, zones, lanes, affinity, the leader, retries, timeouts, health
// checks, metrics. It speaks the gRPC protocol, which Connect's handlers serve, too. A server is an [http.Server] whose
// services are in etcd while it serves.
//
// Generated code, by protoc-gen-go-etcd's parameter connect=true, calls [NewClient] and [Register]:
//
//	client, err := greeterv1connect.NewGreeterServiceClientFromEtcd(registry, grpc.WithTransportCredentials(creds))
//
//	server := connectetcd.NewServer(registry, &http.Server{Protocols: protocols})
//	greeterv1connect.RegisterGreeterServiceHandlerToEtcd(server, impl)
//	err = server.Serve(ctx, listener)
package connectetcd

// SupportPackageIsVersion1 is named by generated code, so that the code does not compile with a version of this package
// that is too old for it.
const SupportPackageIsVersion1 = true
