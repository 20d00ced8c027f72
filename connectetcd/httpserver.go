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

// httpServer is the HTTP server in the form in which runtime.Server serves one of gRPC.
type httpServer struct {
	http *http.Server

	mu       sync.Mutex
	services map[string]grpc.ServiceInfo
	faults   []error // of NewServer and of registering; Serve and Announce return them
}

// add notes a service with the methods of its descriptor. A service without a linked descriptor is not noted: callers
// assume that it has every method.
func (s *httpServer) add(service string) {
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service)) // an error: there is none
	desc, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return
	}
	var info grpc.ServiceInfo
	for i := range desc.Methods().Len() {
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: string(desc.Methods().Get(i).Name())})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[service] = info
}

func (s *httpServer) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}

// err returns the faults as one error, nil if there are none.
func (s *httpServer) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.faults...)
}

// RegisterService notes gRPC's health service, the only one that runtime.Server registers. HandleHealth serves it.
func (s *httpServer) RegisterService(desc *grpc.ServiceDesc, _ any) { s.add(desc.ServiceName) }

func (s *httpServer) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.services)
}

// Serve closes lis. runtime.Server ignores grpc.ErrServerStopped after it has stopped the server itself.
func (s *httpServer) Serve(lis net.Listener) error {
	defer lis.Close() // ServeTLS leaves it open where HTTP/2 cannot be configured
	var err error
	if hasCertificate(s.http.TLSConfig) && !isTLS(lis) {
		err = s.http.ServeTLS(lis, "", "")
	} else {
		err = s.http.Serve(lis)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("connectetcd: the http.Server was shut down, and not by the end of Serve's context: %w (%w)", err, grpc.ErrServerStopped)
	}
	return err
}

// GracefulStop returns when calls have ended, or Stop has cut them.
func (s *httpServer) GracefulStop() { _ = s.http.Shutdown(context.Background()) } // an error: a listener was closed before

func (s *httpServer) Stop() { _ = s.http.Close() } // an error: as above

// checkHTTP2 returns an error if the server will not speak HTTP/2 on a listener.
func checkHTTP2(s *http.Server, lis net.Listener) error {
	var cure string
	switch overTLS := hasCertificate(s.TLSConfig) || isTLS(lis); {
	case !overTLS && (s.Protocols == nil || !s.Protocols.UnencryptedHTTP2()):
		cure = "set a certificate in its TLSConfig or, without TLS, call SetUnencryptedHTTP2(true) on its Protocols, in place of h2c.NewHandler"
	case overTLS && !http2OverTLS(s):
		cure = "call SetHTTP2(true) on its Protocols, or leave Protocols and TLSNextProto nil"
	case isTLS(lis) && s.TLSConfig != nil && !slices.Contains(s.TLSConfig.NextProtos, "h2"): // net/http adds it for its own listeners only
		cure = `add "h2" to the NextProtos of its TLSConfig and of the listener's, or give Serve a listener without TLS`
	default:
		return nil
	}
	return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: " + cure)
}

// http2OverTLS reports whether the server speaks HTTP/2 over TLS, by the rules of net/http.
func http2OverTLS(s *http.Server) bool {
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

// isTLS reports whether package tls made lis. It negotiates HTTP/2 if its configuration says so.
func isTLS(lis net.Listener) bool { return reflect.TypeOf(lis) == tlsListener }
