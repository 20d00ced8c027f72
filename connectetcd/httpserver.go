package connectetcd

import (
	"cmp"
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
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// httpServer adapts an HTTP server to runtime.GRPCServer, the interface of the servers that a runtime.Server serves.
type httpServer struct {
	http     *http.Server
	starting sync.Map     // of net.Conn: the connections that have not sent a complete preface of HTTP/2, or header of HTTP/1
	calls    sync.RWMutex // held for reading by each running handler of a call, and locked for good by GracefulStop
	stopping atomic.Bool
	mu       sync.Mutex // guards the fields below
	refuse   func()     // makes Serve return, without an end of the connections; nil before Serve
	services map[string]grpc.ServiceInfo
	faults   []error // of NewServer, Register and HandleHealth; Serve and Announce return them
}

// add records a service with the methods of its descriptor. It ignores a service without a linked descriptor: callers then
// assume that the service has every method.
func (s *httpServer) add(service string) {
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service)) // an error means no descriptor
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

// RegisterService records gRPC's health service, the only one that runtime.Server registers. HandleHealth serves it.
func (s *httpServer) RegisterService(desc *grpc.ServiceDesc, _ any) { s.add(desc.ServiceName) }

func (s *httpServer) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.services)
}

// Serve serves on lis, and closes it. runtime.Server ignores grpc.ErrServerStopped after it has stopped the server itself.
func (s *httpServer) Serve(lis net.Listener) error {
	defer lis.Close() // http.Server.Serve leaves it open if HTTP/2 cannot be configured
	if config := s.http.TLSConfig; hasCertificate(config) {
		config = config.Clone()
		config.NextProtos = append(slices.Clone(config.NextProtos), "h2") // so that net/http speaks HTTP/2
		s.http.TLSConfig, lis = config, tlsListener{lis, config}
	}
	given := s.http.ConnState
	s.http.ConnState = func(conn net.Conn, state http.ConnState) {
		if key := reflect.ValueOf(conn); state == http.StateNew && key.Comparable() {
			s.starting.Store(conn, nil)
		} else if key.Comparable() {
			s.starting.Delete(conn)
		}
		if given != nil {
			given(conn, state)
		}
	}
	served := make(chan struct{})
	defer close(served)
	s.mu.Lock()
	s.refuse = func() { _ = lis.Close(); <-served }
	s.mu.Unlock()
	err := s.http.Serve(lis)
	if s.stopping.Load() || errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("connectetcd: the http.Server was shut down before the context of Serve ended: %w (%w)", err, grpc.ErrServerStopped)
	}
	return err
}

// startingTime is how long a server that stops leaves connections that are starting.
const startingTime = 500 * time.Millisecond

// GracefulStop returns when the handlers of all calls have returned. It closes the listener, and calls Shutdown once no connection is
// starting: after Shutdown, net/http drops the first request of HTTP/1, does not tell clients of HTTP/2 to leave, and waits for silent ones.
func (s *httpServer) GracefulStop() {
	s.stopping.Store(true)
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		refuse()
	}
	for end, left := time.Now().Add(startingTime), true; left; time.Sleep(time.Millisecond) {
		left = false
		early := time.Now().Before(end)
		s.starting.Range(func(conn, _ any) bool {
			if left = early; !early {
				_ = conn.(net.Conn).Close() // fails only if it is closed
			}
			return true
		})
	}
	_ = s.http.Shutdown(context.Background()) // fails if a listener is already closed
	s.calls.Lock()                            // no WaitGroup, whose Add must not meet Wait: a call that Stop has cut may be starting
}

func (s *httpServer) Stop() { _ = s.http.Close() } // Close fails if a listener is already closed

// checkHTTP2 returns an error if the server will surely not speak HTTP/2 on a listener.
func checkHTTP2(s *http.Server, lis net.Listener) error {
	var remedy string
	_, plain := lis.(*net.TCPListener) // others may hide a TLS listener
	protocols := cmp.Or(s.Protocols, new(http.Protocols))
	switch certificate := hasCertificate(s.TLSConfig); {
	case !certificate && protocols.UnencryptedHTTP2():
		return nil
	case plain && !certificate:
		remedy = "set a certificate in its TLSConfig or, without TLS, call SetUnencryptedHTTP2(true) on its Protocols instead of h2c.NewHandler"
	case !protocols.HTTP2() && (s.Protocols != nil || s.TLSNextProto != nil && s.TLSNextProto["h2"] == nil): // by the rules of net/http
		remedy = "call SetHTTP2(true) on its Protocols, or leave Protocols and TLSNextProto nil"
	case !certificate && s.TLSConfig != nil && !slices.Contains(s.TLSConfig.NextProtos, "h2"): // net/http adds h2 only if TLSConfig is nil
		remedy = `add "h2" to the NextProtos of its TLSConfig and of the listener's, or give Serve a listener without TLS`
	default:
		return nil
	}
	return errors.New("connectetcd: the http.Server speaks no HTTP/2, which the gRPC protocol needs: " + remedy)
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

// tlsListener adds TLS to the connections that have none.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if _, has := conn.(*tls.Conn); !has && err == nil {
		conn = tls.Server(conn, l.config)
	}
	return conn, err
}
