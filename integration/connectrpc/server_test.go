package connectrpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	connectgo "connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect/connectconnect"
)

// entries returns the values of the library's entries in etcd.
func (w *world) entries() (values []string) {
	w.t.Helper()

	resp, err := etcd.Admin().Get(w.t.Context(), w.namespace+"connect/library/",
		clientv3.WithPrefix())
	kit.Must(w.t, err)

	for _, kv := range resp.Kvs {
		values = append(values, string(kv.Value))
	}

	return values
}

func registerLibrary(s *connectetcd.Server) {
	connectconnect.RegisterLibraryHandlerToEtcd(s, library{name: "a"})
}

// A drained server deletes its entry, accepts calls for the drain delay, and
// finishes the calls under way.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{})
	let := make(chan struct{})
	borrow := func(_ context.Context, req *borrowRequest) (*borrowResponse, error) {
		if req.Msg.GetTitle() == "late" {
			return lentBy(""), nil
		}

		close(arrived)
		<-let

		return lentBy("finished"), nil
	}

	const delay = 300 * time.Millisecond

	register := func(s *connectetcd.Server) {
		connectconnect.RegisterLibraryHandlerToEtcd(s, replying{borrow: borrow},
			connectetcd.WithRegisterOptions(runtime.WithVersion("v7")))
	}

	s := w.serve(h2c(), register, runtime.WithDrainDelay(delay))

	all := w.entries()
	if len(all) != 1 ||
		!strings.Contains(all[0], `"version":"v7"`) ||
		!strings.Contains(all[0], "Borrow") {
		t.Errorf("etcd has the entries %q, want one with the version v7 and the method Borrow", all)
	}

	// behind is a caller that has not seen the withdrawal.
	behind := connectconnect.NewLibraryClient(s.dial(t), "http://any", connectgo.WithGRPC())

	finished := make(chan error, 1)
	go func() {
		borrowed, err := w.client().Borrow(kit.Context(t), borrowing(""))
		if err == nil && borrowed.Msg.GetServer() != "finished" {
			err = fmt.Errorf("Borrow answered %q, want \"finished\"", borrowed.Msg.GetServer())
		}

		finished <- err
	}()

	<-arrived

	stopped := make(chan error, 1)
	began := time.Now()
	go func() { stopped <- s.stop() }()
	kit.Eventually(t, "the entry is withdrawn", func() bool { return len(w.entries()) == 0 })

	late := borrowing("late")
	_, err := behind.Borrow(kit.Context(t), late)
	if err != nil && time.Since(began) < delay {
		t.Errorf("a call within the drain delay: %v, want success", err)
	}

	select {
	case err := <-stopped:
		t.Errorf("Serve returned %v while a call was under way, want it to wait for the call", err)
	case <-time.After(delay + 100*time.Millisecond):
	}

	close(let)
	kit.Must(t, errors.Join(<-finished, <-stopped))
}

// While servers join and drain, no call fails, unary or stream.
func TestNoCallFails(t *testing.T) {
	w := newWorld(t)
	servers := w.libraries("server0", "server1", "server2")
	client := w.client()
	ctx, cancel := context.WithCancel(t.Context())

	var made atomic.Int64

	var calling sync.WaitGroup
	for range 4 {
		calling.Go(func() {
			for ctx.Err() == nil {
				if _, err := callEach(kit.Context(t), client); err != nil {
					t.Error(err)
				}

				made.Add(1)
			}
		})
	}

	goOn := func() {
		before := made.Load()
		kit.Eventually(t, "12 more calls are answered", func() bool {
			return made.Load() >= before+12
		})
	}

	for i, s := range servers {
		goOn()
		w.libraries(fmt.Sprint("joined", i))
		goOn()
		kit.Must(t, s.stop())
	}

	goOn()
	cancel()
	calling.Wait()
}

// The stop timeout ends calls whose handler does not return.
func TestDrain_CutsHangingHandlers(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{})
	let := make(chan struct{})
	defer close(let)

	hang := func(context.Context, *bookChat) error {
		close(arrived)
		<-let

		return nil
	}

	register := func(s *connectetcd.Server) {
		connectconnect.RegisterLibraryHandlerToEtcd(s, replying{chat: hang})
	}
	s := w.serve(h2c(), register, runtime.WithStopTimeout(100*time.Millisecond))

	// The config has no retries.
	chat := w.client(runtime.WithDefaultServiceConfig(`{"methodConfig":[]}`)).Chat(kit.Context(t))
	kit.Must(t, chat.Send(&connect.Book{}))
	<-arrived

	if err := s.stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve: %v, want DeadlineExceeded, as a call was cut", err)
	}

	_, err := chat.Receive()
	wantCode(t, err, connectgo.CodeUnavailable, "")
	_ = chat.CloseResponse()
}

// The http.Server serves its other routes over HTTP/1, and the services by gRPC
// and the Connect protocol. A middleware wraps all of them.
func TestOtherRoutes(t *testing.T) {
	w := newWorld(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, "a page")
	})

	server := h2c()
	server.Handler = mux
	s := w.serve(server, func(s *connectetcd.Server) {
		registerLibrary(s)
		wrapped := server.Handler // the test wraps it as a middleware does
		server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			rw.Header().Set("Middleware", "yes")
			wrapped.ServeHTTP(rw, req)
		})
	})

	defer http.DefaultClient.CloseIdleConnections()

	resp, err := http.Get("http://" + s.addr + "/page")
	kit.Must(t, err)
	text, err := io.ReadAll(resp.Body)
	kit.Must(t, errors.Join(err, resp.Body.Close()))

	if string(text) != "a page" || resp.Header.Get("Middleware") != "yes" {
		t.Errorf("GET of the page: %q, header %v, want \"a page\" through the middleware",
			text, resp.Header)
	}

	direct := connectconnect.NewLibraryClient(http.DefaultClient, "http://"+s.addr)
	borrowed, err := direct.Borrow(kit.Context(t), borrowing(""))
	kit.Must(t, err)

	if borrowed.Msg.GetServer() != "a" {
		t.Errorf("Borrow over the Connect protocol: %v, want an answer of a", borrowed.Msg)
	}

	borrowed, err = w.client().Borrow(kit.Context(t), borrowing(""))
	kit.Must(t, err)

	if borrowed.Header().Get("Middleware") != "yes" {
		t.Errorf("headers of Borrow: %v, want Middleware: yes", borrowed.Header())
	}
}

// A server speaks TLS if the http.Server has a certificate or the listener is a
// TLS listener.
func TestTLS(t *testing.T) {
	unstarted := httptest.NewUnstartedServer(nil)
	unstarted.StartTLS() // makes a certificate for example.com
	roots := x509.NewCertPool()
	roots.AddCert(unstarted.Certificate())
	unstarted.Close()

	creds := grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs:    roots,
		ServerName: "example.com",
	}))

	config := &tls.Config{Certificates: unstarted.TLS.Certificates, NextProtos: []string{"h2"}}
	own := &tls.Config{Certificates: config.Certificates}

	for name, httpServer := range map[string]*http.Server{
		"the server's":   {TLSConfig: own},
		"the listener's": {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server := connectetcd.NewServer(w.newRegistry(), httpServer, runtime.WithDrainDelay(0))
			registerLibrary(server)

			lis := kit.Listen(t)
			if name != "the server's" {
				lis = struct{ net.Listener }{tls.NewListener(lis, config)} // as a program may wrap it
			}

			stop := kit.Run(t, func(ctx context.Context) error { return server.Serve(ctx, lis) })
			client, err := connectconnect.NewLibraryClientFromEtcd(w.registry, creds)
			kit.Must(t, err)
			callAll(t, client)
			kit.Must(t, stop())
		})
	}
}

// Serve returns an error for a configuration that cannot work, and announces
// nothing.
func TestServeRefuses(t *testing.T) {
	w := newWorld(t)
	var protocols http.Protocols
	protocols.SetHTTP1(true)

	ciphers := &tls.Config{
		Certificates: make([]tls.Certificate, 1),
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
	}

	registerZone := func(s *connectetcd.Server) {
		connectconnect.RegisterLibraryHandlerToEtcd(s, library{},
			connectetcd.WithRegisterOptions(runtime.WithMetadata("zone", "x")))
	}

	for name, c := range map[string]struct {
		server   *http.Server
		register func(*connectetcd.Server)
		want     string
	}{
		"no HTTP/2": {new(http.Server), registerLibrary, "speaks no HTTP/2"},
		"HTTP/1 alone": {&http.Server{Protocols: &protocols}, registerLibrary,
			"call SetUnencryptedHTTP2(true)"},
		"a bad option":  {h2c(), registerZone, "zone"},
		"cipher suites": {&http.Server{TLSConfig: ciphers}, registerLibrary, "HTTP/2-required"},
	} {
		t.Run(name, func(t *testing.T) {
			server := connectetcd.NewServer(w.registry, c.server)
			c.register(server)
			lis := kit.Listen(t)

			err := server.Serve(kit.Context(t), lis)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Serve: %v, want an error with %q", err, c.want)
			}

			if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept after Serve: %v, want a closed listener", err)
			}
		})
	}

	if all := w.entries(); len(all) > 0 {
		t.Errorf("etcd has %q, want no entry", all)
	}

	defer func() {
		reason := fmt.Sprint(recover())
		if !strings.Contains(reason, "is a http.HandlerFunc") {
			t.Errorf("NewServer with another Handler: panic %q, want one that names its type",
				reason)
		}
	}()

	connectetcd.NewServer(w.registry, &http.Server{Handler: http.NotFoundHandler()})
}

// A service has an entry while its status in Connect's health service is
// SERVING. A drain sets NOT_SERVING.
func TestHealth(t *testing.T) {
	for name, wrap := range map[string]func(*grpchealth.StaticChecker) grpchealth.Checker{
		"settable": func(c *grpchealth.StaticChecker) grpchealth.Checker {
			return c
		},
		"a checker that cannot be watched": func(c *grpchealth.StaticChecker) grpchealth.Checker {
			return struct{ grpchealth.Checker }{c}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			checker := grpchealth.NewStaticChecker(connectconnect.LibraryName)
			register := func(s *connectetcd.Server) {
				registerLibrary(s)
				s.HandleHealth(wrap(checker))
			}

			s := w.serve(h2c(), register, runtime.WithDrainDelay(300*time.Millisecond))

			checker.SetStatus(connectconnect.LibraryName, grpchealth.StatusNotServing)
			kit.Eventually(t, "the entry is withdrawn", func() bool {
				return len(w.entries()) == 0
			})

			checker.SetStatus(connectconnect.LibraryName, grpchealth.StatusServing)
			kit.Eventually(t, "the entry is in etcd again", func() bool {
				return len(w.entries()) == 1
			})

			health := grpchealth.NewClient(s.dial(t), "http://any", connectgo.WithGRPC())
			resp, err := health.Check(kit.Context(t),
				&grpchealth.CheckRequest{Service: connectconnect.LibraryName})
			kit.Must(t, err)

			if resp.Status != grpchealth.StatusServing {
				t.Errorf("health status: %v, want SERVING", resp.Status)
			}

			stopped := make(chan error, 1)
			go func() { stopped <- s.stop() }()

			is := func(want grpchealth.Status) bool {
				resp, err := checker.Check(t.Context(),
					&grpchealth.CheckRequest{Service: connectconnect.LibraryName})
				server, serverErr := checker.Check(t.Context(), &grpchealth.CheckRequest{})
				return err == nil &&
					serverErr == nil &&
					resp.Status == want &&
					server.Status == want
			}

			want := grpchealth.StatusServing
			if name == "settable" {
				want = grpchealth.StatusNotServing
				kit.Eventually(t, "the drain is seen", func() bool { return is(want) })
			}

			kit.Must(t, <-stopped)

			if !is(want) {
				t.Errorf("the health status has changed after the drain, want %v", want)
			}
		})
	}
}

// A service without a status has the health of the server, and no warning is
// logged.
func TestHealthOfAnUnknownService(t *testing.T) {
	w := newWorld(t)
	checker := grpchealth.NewStaticChecker()
	w.serve(h2c(), func(s *connectetcd.Server) {
		registerLibrary(s)
		s.HandleHealth(checker)
	})

	checker.SetStatus("", grpchealth.StatusNotServing)
	kit.Eventually(t, "the entry has left etcd", func() bool { return len(w.entries()) == 0 })

	if n := w.logs.Count("health service"); n > 0 {
		t.Errorf("%d log lines about the health service, want none", n)
	}
}

// If two servers share a checker, the drain of one does not change the status
// in the checker.
func TestHealthOfASharedChecker(t *testing.T) {
	w := newWorld(t)
	checker := grpchealth.NewStaticChecker(connectconnect.LibraryName)
	registry := w.newRegistry()

	shared := func(s *connectetcd.Server) {
		registerLibrary(s)
		s.HandleHealth(checker)
	}

	drains := w.serveOf(registry, h2c(), shared)
	w.serveOf(registry, h2c(), shared)

	var changes atomic.Int32
	stop, err := checker.Watch(t.Context(),
		&grpchealth.CheckRequest{Service: connectconnect.LibraryName}, func() { changes.Add(1) })
	kit.Must(t, err)

	defer stop()

	kit.Must(t, drains.stop())

	if n := changes.Load(); n > 0 {
		t.Errorf("the shared status changed %d times, want 0", n)
	}
}

// A program that calls the Serve of its http.Server registers with Announce and
// Withdraw.
func TestAnnounce(t *testing.T) {
	w := newWorld(t)
	httpServer := h2c()
	registry := w.newRegistry()
	s := connectetcd.NewServer(registry, httpServer)

	configured := &http.HTTP2Config{
		MaxConcurrentStreams:          7,
		MaxReceiveBufferPerConnection: 8,
		MaxReceiveBufferPerStream:     9,
	}

	byHand := map[string]func(*http.Server, *tls.Conn, http.Handler){} // as x/net/http2 sets it

	for i, given := range []*http.Server{{}, {HTTP2: configured}, {TLSNextProto: byHand}} {
		connectetcd.NewServer(registry, given)

		c := cmp.Or(given.HTTP2, new(http.HTTP2Config))
		want := [][3]int{{10_000, 4<<20 - 1, 0}, {7, 8, 9}, {}}[i]

		got := [3]int{c.MaxConcurrentStreams, c.MaxReceiveBufferPerConnection,
			c.MaxReceiveBufferPerStream}
		if got != want {
			t.Errorf("server %d: NewServer changed the limits of streams and buffers to %+v", i, c)
		}
	}

	registerLibrary(s)
	lis := kit.Listen(t)
	served := make(chan error, 1)
	go func() { served <- httpServer.Serve(lis) }()
	kit.Must(t, s.Announce(kit.Context(t), lis.Addr().String()))
	callAll(t, w.client())
	kit.Must(t, s.Withdraw(kit.Context(t)))

	if all := w.entries(); len(all) > 0 {
		t.Errorf("etcd has %q, want no entry", all)
	}

	kit.Must(t, httpServer.Close())

	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// If the program shuts down the http.Server before or during Serve, Serve
// returns ErrServerClosed.
func TestForeignShutdown(t *testing.T) {
	w := newWorld(t)
	before := h2c()
	kit.Must(t, before.Shutdown(t.Context()))
	s := connectetcd.NewServer(w.newRegistry(), before)
	registerLibrary(s)

	err := s.Serve(kit.Context(t), kit.Listen(t))
	if !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v, want ErrServerClosed", err)
	}

	server := h2c()
	running := w.serve(server, registerLibrary)
	kit.Must(t, server.Shutdown(t.Context()))
	kit.Eventually(t, "the entry has left etcd", func() bool { return len(w.entries()) == 0 })

	if err := running.stop(); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Shutdown during Serve: %v, want ErrServerClosed", err)
	}
}

// The lane interceptor does not modify a handler's error, as concurrent calls
// may return the same error value.
func TestLanesLeaveErrorsAlone(t *testing.T) {
	w := newWorld(t)
	shared := connectgo.NewError(connectgo.CodeNotFound, errors.New("shared"))
	w.replying(replying{borrow: func(
		_ context.Context,
		req *borrowRequest,
	) (*borrowResponse, error) {
		if req.Msg.GetTitle() == "deadline" {
			return nil, context.DeadlineExceeded
		}

		return nil, shared
	}}, connectgo.WithInterceptors(connectetcd.NewLaneInterceptor()))

	client := w.client()

	ended := make(chan error, 4)
	for range cap(ended) { // the race detector finds a modification
		go func() {
			_, err := client.Borrow(kit.Context(t), borrowing(""))
			ended <- err
		}()
	}

	for range cap(ended) {
		wantCode(t, <-ended, connectgo.CodeNotFound, "shared")
	}

	_, err := client.Borrow(kit.Context(t), borrowing("deadline"))
	wantCode(t, err, connectgo.CodeDeadlineExceeded, "")
}
