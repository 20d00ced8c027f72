package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// planted is a set of services (a fleet) in its own namespace. dial leads their
// addresses to servers of the test.
type planted struct {
	t         *testing.T
	etcd      *etcdtest.Cluster
	namespace string
	yard      *yard

	// addresses of servers, by advertised address; "" refuses connections
	routes map[string]string

	// by advertised address, what the server does to its entry when doctor
	// dials it
	stops map[string]func()

	worn []clientv3.LeaseID // leases that are not renewed
}

func newFleet(t *testing.T, etcd *etcdtest.Cluster, y *yard, namespace string) *planted {
	return &planted{
		t:         t,
		etcd:      etcd,
		namespace: namespace,
		yard:      y,
		routes:    make(map[string]string),
		stops:     make(map[string]func()),
	}
}

func (f *planted) put(key, value string) {
	f.putOn(key, value, 0)
}

// lease puts a key on its own lease of an hour. @ in the key is the decimal id
// of the lease.
func (f *planted) lease(key, value string) {
	f.putOn(key, value, 3600)
}

// dying puts a key on a lease that is not renewed.
func (f *planted) dying(key, value string) {
	f.worn = append(f.worn, f.putOn(key, value, 12))
}

func (f *planted) putOn(key, value string, ttl int64) (lease clientv3.LeaseID) {
	f.t.Helper()

	if ttl > 0 {
		lease = granted(f.t, f.etcd, ttl)
		key = strings.ReplaceAll(key, "@", strconv.FormatInt(int64(lease), 10))
	}

	putKey(f.t, f.etcd, f.namespace+key, value, lease)

	return lease
}

// instances puts an instance for each element of metadata, or one without
// metadata: for acme/user at user-1:9000, user-2:9000 and so on.
func (f *planted) instances(key string, metadata ...string) {
	if len(metadata) == 0 {
		metadata = []string{"null"}
	}

	for n, says := range metadata {
		f.says(key, fmt.Sprintf("%s-%d:9000", path.Base(key), n+1), says)
	}
}

// instance puts a well-formed entry on a lease. If a server is given, the
// address leads to it.
func (f *planted) instance(key, addr string, server ...string) {
	f.says(key, addr, "null", server...)
}

// says is like instance, and gives the entry metadata.
func (f *planted) says(key, addr, metadata string, server ...string) {
	f.lease(key+"/"+addr, `{"Addr":"`+addr+`","Metadata":`+metadata+`}`)

	for _, name := range server {
		f.route(addr, name)
	}
}

func (f *planted) policy(key, config string) {
	f.put(inventory.ConfigPrefix+key, config)
}

func (f *planted) etcdPolicy(key, fields string) {
	f.policy(key, `{"loadBalancingConfig":[{"etcd":{`+fields+`}}]}`)
}

// route makes an address lead to a named server of newYard, or refuse
// connections if server is "".
func (f *planted) route(addr, server string) {
	if server != "" && f.yard.servers[server] == "" {
		f.t.Fatalf("no server is named %q", server)
	}

	f.routes[addr] = f.yard.servers[server]
}

// dial connects addresses of the fleet to servers of the test, and an address
// without a route to the healthy server.
func (f *planted) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if stop := f.stops[addr]; stop != nil {
		stop()
	}

	switch to, routed := f.routes[addr]; {
	case routed && to == "":
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("connection refused")}
	case routed:
		return new(net.Dialer).DialContext(ctx, network, to)
	default:
		return new(net.Dialer).DialContext(ctx, network, f.yard.servers["healthy"])
	}
}

// doctor examines the fleet.
func (f *planted) doctor(args ...string) (found doctor.Report, stderr string) {
	f.t.Helper()

	for _, lease := range f.worn {
		f.awaitWorn(lease)
	}

	a := newApp()
	a.dial = f.dial

	out, stderr, _ := executed(f.t, a,
		append(at(f.etcd, "doctor", "-o", "json", "--namespace", f.namespace), args...)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		f.t.Fatalf("doctor %q: %v: %s%s", args, err, out, stderr)
	}

	return found, stderr
}

// awaitWorn waits until a third of a lease remains.
func (f *planted) awaitWorn(lease clientv3.LeaseID) {
	f.t.Helper()

	ctx, cancel := context.WithTimeout(f.t.Context(), 2*soon)
	defer cancel()

	for {
		now, err := f.etcd.Admin().TimeToLive(ctx, lease)
		must(f.t, err)

		if now.TTL*3 <= now.GrantedTTL {
			return
		}

		store.Pause(ctx, 50*time.Millisecond)
	}
}

// yard has the servers that all fleets share. newYard describes each of them.
type yard struct {
	t       *testing.T
	caFile  string
	servers map[string]string // addresses, by name
}

func newYard(t *testing.T) *yard {
	ca := newAuthority(t)
	later := time.Now().Add(60 * 24 * time.Hour)
	y := &yard{t: t, caFile: ca.file(t)}

	// secure returns a TLS config, adjusted by change, with a certificate for
	// any requested name.
	secure := func(change func(*tls.Config)) *tls.Config {
		config := ca.issuer("", later)
		change(config)

		return config
	}

	good := secure(func(*tls.Config) {})
	const no, unknown = grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_UNKNOWN

	says := func(
		service string,
		status grpc_health_v1.HealthCheckResponse_ServingStatus,
		others ...string,
	) func(*grpc.Server) {
		checks := health.NewServer() // the status of "" is SERVING
		checks.SetServingStatus(service, status)

		for _, name := range others {
			checks.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
		}

		return func(server *grpc.Server) { grpc_health_v1.RegisterHealthServer(server, checks) }
	}

	serving := says("", grpc_health_v1.HealthCheckResponse_SERVING)

	// hangs makes health checks hang: all of them or, if named is set, only
	// those of a named service.
	hangs := func(named bool) grpc.ServerOption {
		return grpc.UnaryInterceptor(func(
			ctx context.Context,
			in any,
			_ *grpc.UnaryServerInfo,
			handle grpc.UnaryHandler,
		) (any, error) {
			check, ok := in.(*grpc_health_v1.HealthCheckRequest)
			if ok && (!named || check.GetService() != "") {
				<-ctx.Done()
				return nil, status.FromContextError(ctx.Err()).Err() // a late OK could still reach doctor
			}

			return handle(ctx, in)
		})
	}

	y.servers = map[string]string{
		"healthy": y.serve(good, serving),
		"plain":   y.serve(nil, serving),
		"plainly": y.serve(nil, says("acme.Jarrah", no)),
		"bare":    y.serve(good, nil), // without a health service
		"mutual": y.serve(secure(func(config *tls.Config) {
			config.ClientAuth = tls.RequireAnyClientCert
		}), serving),

		"notServing": y.serve(good, says("", no)),
		"unknown":    y.serve(good, says("", unknown)),
		"partly":     y.serve(good, says("acme.Grape", no)),
		"many": y.serve(good, says("acme.S9", no, "acme.S1", "acme.S2", "acme.S3", "acme.S4",
			"acme.S5", "acme.S6", "acme.S7", "acme.S8")),
		"forgetful": y.serve(good, serving, hangs(true)),
		"hanging":   y.serve(good, serving, hangs(false)),
		// like a proxy without an upstream
		"idle": y.serve(good, nil, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.Unavailable, "no healthy upstream")
		})),

		"expired":  y.serve(ca.issuer("", time.Now().Add(-time.Minute)), serving),
		"ending":   y.serve(ca.issuer("", time.Now().Add(23*time.Hour)), serving),
		"misnamed": y.serve(ca.issuer("somebody.else", later), serving),
		"foreign":  y.serve(newAuthority(t).issuer("", later), serving),

		"http1": y.serveHTTP(nil, false, http.NotFound),
		"http2": y.serveHTTP(good.Clone(), true, http.NotFound),
		// answers one request per connection
		"brief": y.serveHTTP(good.Clone(), true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 1}) // the status SERVING
		}),
	}

	return y
}

// serve runs a gRPC server. It uses no TLS if config is nil, and has no
// services if register is nil.
func (y *yard) serve(
	config *tls.Config,
	register func(*grpc.Server),
	opts ...grpc.ServerOption,
) string {
	y.t.Helper()

	if config != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(config)))
	}

	server := grpc.NewServer(opts...)
	if register != nil {
		register(server)
	}

	return serveUntilEnd(y.t, server)
}

// serveHTTP runs a web server. It uses no TLS if config is nil.
func (y *yard) serveHTTP(config *tls.Config, http2 bool, handler http.HandlerFunc) string {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = http2
	server.TLS = config
	server.Config.ErrorLog = log.New(io.Discard, "", 0)

	if config != nil {
		server.StartTLS()
	} else {
		server.Start()
	}

	y.t.Cleanup(server.Close)

	return server.Listener.Addr().String()
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)

	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "the authority of a test"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(90 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign}

	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(raw)
	must(t, err)

	return &authority{cert, key}
}

// file returns the name of a file with the authority's certificate.
func (a *authority) file(t testing.TB) string {
	t.Helper()
	return tempFile(t, "ca.pem",
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue returns a certificate for a name.
func (a *authority) issue(name string, until time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     until,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}

	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}

	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: a.key}, nil
}

// issuer returns the configuration of a server with a certificate for a name
// or, if it is "", for each requested name.
func (a *authority) issuer(name string, until time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if name != "" {
				return a.issue(name, until)
			}

			return a.issue(hello.ServerName, until)
		}}
}
