package connectetcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// httpServer is an HTTP server, as a runtime.Server serves one of gRPC.
type httpServer struct {
	http *http.Server

	mu       sync.Mutex
	services map[string]grpc.ServiceInfo
	stopped  bool // by GracefulStop or Stop, not by the http.Server's owner
}

// add notes that the server has a service, if the program links its descriptor, which has the methods.
func (s *httpServer) add(service string) {
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service)) // an error: there is none
	desc, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return
	}
	var info grpc.ServiceInfo
	for i := range desc.Methods().Len() {
		m := desc.Methods().Get(i)
		info.Methods = append(info.Methods, grpc.MethodInfo{
			Name: string(m.Name()), IsClientStream: m.IsStreamingClient(), IsServerStream: m.IsStreamingServer(),
		})
	}
	s.note(service, info)
}

func (s *httpServer) note(service string, info grpc.ServiceInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services == nil {
		s.services = make(map[string]grpc.ServiceInfo)
	}
	s.services[service] = info
}

// RegisterService notes gRPC's health service, the only one that runtime.Server registers. Where Connect serves none,
// nobody can ask it.
func (s *httpServer) RegisterService(desc *grpc.ServiceDesc, _ any) {
	s.note(desc.ServiceName, grpc.ServiceInfo{})
}

func (s *httpServer) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.services)
}

// Serve closes lis, and returns nil when the server is stopped, as gRPC's does.
func (s *httpServer) Serve(lis net.Listener) error {
	defer lis.Close() // ServeTLS leaves it open where HTTP/2 cannot be configured
	var err error
	if hasCertificate(s.http.TLSConfig) && !isTLS(lis) {
		err = s.http.ServeTLS(lis, "", "")
	} else {
		err = s.http.Serve(lis)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if !s.stopped {
		return fmt.Errorf("connectetcd: the http.Server was shut down by another than Serve: %w", err)
	}
	return nil
}

func (s *httpServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// GracefulStop returns when calls have ended, or Stop has cut them.
func (s *httpServer) GracefulStop() {
	s.stop()
	_ = s.http.Shutdown(context.Background()) // an error: a listener that was closed before
}

func (s *httpServer) Stop() {
	s.stop()
	_ = s.http.Close() // as above
}

// checkHTTP2 returns an error if the server will not speak HTTP/2 on a listener.
func checkHTTP2(s *http.Server, lis net.Listener) error {
	if hasCertificate(s.TLSConfig) || isTLS(lis) {
		if !overTLS(s) {
			return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: call SetHTTP2(true) on its Protocols, or leave Protocols and TLSNextProto nil")
		}
		// net/http adds it to the protocols of its own listeners alone.
		if isTLS(lis) && s.TLSConfig != nil && !slices.Contains(s.TLSConfig.NextProtos, "h2") {
			return errors.New(`connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: add "h2" to the NextProtos of its TLSConfig and of the listener's, or give Serve a listener without TLS`)
		}
		return nil
	}
	if s.Protocols == nil || !s.Protocols.UnencryptedHTTP2() {
		return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: set a certificate in its TLSConfig or, without TLS, call SetUnencryptedHTTP2(true) on its Protocols, in place of h2c.NewHandler")
	}
	return nil
}

// overTLS reports whether the server speaks HTTP/2 over TLS, as net/http decides it.
func overTLS(s *http.Server) bool {
	if s.Protocols != nil {
		return s.Protocols.HTTP2()
	}
	_, has := s.TLSNextProto["h2"]
	return s.TLSNextProto == nil || has
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

var tlsListener = reflect.TypeOf(tls.NewListener(nil, nil))

// isTLS reports whether lis is one of package tls, which negotiates HTTP/2 if its configuration says so.
func isTLS(lis net.Listener) bool { return reflect.TypeOf(lis) == tlsListener }
