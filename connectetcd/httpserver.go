package connectetcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// httpServer adapts an HTTP server to runtime.GRPCServer, the interface of the servers that a runtime.Server serves.
type httpServer struct {
	http     *http.Server
	services map[string]grpc.ServiceInfo // the lock of the runtime.Server guards it
}

// RegisterService records a service with the methods of its descriptor. The ServeMux serves it. RegisterService ignores a service without
// a linked descriptor: callers then assume that the service has every method.
func (s *httpServer) RegisterService(desc *grpc.ServiceDesc, _ any) {
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName)) // an error means no descriptor
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return
	}
	var info grpc.ServiceInfo
	for i := range service.Methods().Len() {
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: string(service.Methods().Get(i).Name())})
	}
	s.services[desc.ServiceName] = info
}

func (s *httpServer) GetServiceInfo() map[string]grpc.ServiceInfo { return s.services }

// Serve serves on lis, and closes it. runtime.Server ignores grpc.ErrServerStopped after it has stopped the server itself.
func (s *httpServer) Serve(lis net.Listener) error {
	defer lis.Close() // http.Server leaves it open if HTTP/2 cannot be configured

	var err error
	if hasCertificate(s.http.TLSConfig) {
		err = s.http.ServeTLS(lis, "", "")
	} else {
		err = s.http.Serve(lis)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("connectetcd: the http.Server was shut down before the context of Serve ended: %w (%w)", err, grpc.ErrServerStopped)
	}
	return err
}

// GracefulStop waits for the calls that net/http's own Shutdown waits for.
func (s *httpServer) GracefulStop() { _ = s.http.Shutdown(context.Background()) } // fails if a listener is already closed

func (s *httpServer) Stop() { _ = s.http.Close() } // fails if a listener is already closed

// checkHTTP2 returns an error if the server would serve only HTTP/1 on a listener without TLS.
func checkHTTP2(s *http.Server, lis net.Listener) error {
	_, plain := lis.(*net.TCPListener) // others may hide a TLS listener
	if !plain || hasCertificate(s.TLSConfig) || s.Protocols != nil && s.Protocols.UnencryptedHTTP2() {
		return nil
	}
	return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: set a certificate in its TLSConfig or, without TLS, call SetUnencryptedHTTP2(true) on its Protocols instead of h2c.NewHandler")
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}
