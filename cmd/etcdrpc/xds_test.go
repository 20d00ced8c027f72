package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// xdsAt is where xds says that it serves.
var xdsAt = regexp.MustCompile(`Serving xDS at (\S+), and its status at (http://\S+)/`)

// startXDS runs xds, and returns where it serves, and where its page is.
func startXDS(t *testing.T, etcd *etcdtest.Cluster, args ...string) (addr, page string) {
	t.Helper()
	f := startFollower(newApp(), at(etcd, append([]string{"xds", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...))
	t.Cleanup(func() {
		f.stop()
		if code := ends(t, f.code); code != exitFine {
			t.Errorf("xds ends with %d: %s", code, f)
		}
	})
	if err := f.wait(xdsAt.String()); err != nil {
		t.Fatal(err)
	}
	found := xdsAt.FindStringSubmatch(f.String())
	return found[1], found[2]
}

// callByXDS calls a service by a client with a bootstrap.
func callByXDS(t *testing.T, authority, bootstrap string) {
	t.Helper()
	builder, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+authority, grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// serveHealth starts a server, and puts it into etcd.
func serveHealth(t *testing.T, etcd *etcdtest.Cluster, key string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(lis) }() // ends with Stop
	t.Cleanup(g.Stop)
	putKey(t, etcd, key+"/a", fmt.Sprintf(`{"Addr":%q}`, lis.Addr()))
}

func TestXDS(t *testing.T) {
	etcd := etcdtest.Start(t)
	serveHealth(t, etcd, "acme/user")
	addr, page := startXDS(t, etcd, "--service", "acme/user", "--service", "acme/other=other.example:443")
	bootstrap, stderr, code := executed(t, newApp(), "xds", "bootstrap", "--server", addr, "--id", "client-7")
	if code != exitFine {
		t.Fatal(stderr)
	}
	callByXDS(t, "acme.user", bootstrap)
	for path, want := range map[string]string{
		"/": "client client-7  gRPC Go", "/healthz": "ok", "/metrics": `etcdrpc_xds_endpoints{authority="acme.user"} 1`,
	} {
		var text string
		for deadline := time.Now().Add(soon); !strings.Contains(text, want); {
			if time.Now().After(deadline) {
				t.Errorf("%s has no %q:\n%s", path, want, text)
				break
			}
			text = fetched(t, page+path)
		}
	}
}

// stalled is read up to its first line.
type stalled struct {
	written
	lines         atomic.Int32
	stalls, again chan struct{}
}

func (s *stalled) Write(line []byte) (int, error) {
	switch s.lines.Add(1) {
	case 1:
		return s.written.Write(line)
	case 2:
		close(s.stalls)
	}
	<-s.again
	return len(line), nil
}

func TestXDS_LogReaderStalls(t *testing.T) {
	etcd := etcdtest.Start(t)
	serveHealth(t, etcd, "acme/user")
	putKey(t, etcd, "_grpc_config/acme/user", `{"loadBalancingConfig":[{"etcd":{"slowStart":{"window":"10s"}}}]}`) // it cannot say that
	stderr, code := &stalled{stalls: make(chan struct{}), again: make(chan struct{})}, make(chan int, 1)
	ctx, stop := context.WithCancel(t.Context())
	args := at(etcd, "xds", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--service", "acme/user")
	go func() { code <- (newApp()).execute(ctx, args, io.Discard, stderr) }()
	defer ends(t, code)
	defer close(stderr.again)
	defer stop()
	if err := stderr.wait(xdsAt.String()); err != nil {
		t.Fatal(err)
	}
	found := xdsAt.FindStringSubmatch(stderr.String())
	bootstrap, _, _ := executed(t, newApp(), "xds", "bootstrap", "--server", found[1], "--id", "client-7")
	callByXDS(t, "acme.user", bootstrap)
	<-stderr.stalls
	for _, path := range []string{"/", "/healthz", "/metrics"} {
		fetched(t, found[2]+path)
	}
}

func fetched(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Over TLS, xds tells those alone who have a certificate.
func TestXDSOverTLS(t *testing.T) {
	etcd := etcdtest.Start(t)
	serveHealth(t, etcd, "acme/user")
	ca, cert, key := xdsCertificate(t)
	addr, _ := startXDS(t, etcd, "--service", "acme/user", "--server-cert", cert, "--server-key", key, "--client-cacert", ca)
	_, port, _ := net.SplitHostPort(addr)
	bootstrap, stderr, code := executed(t, newApp(), "xds", "bootstrap", "--server", "localhost:"+port, "--id", "a",
		"--server-cacert", ca, "--client-cert", cert, "--client-key", key)
	if code != exitFine {
		t.Fatal(stderr)
	}
	callByXDS(t, "acme.user", bootstrap)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) // it may be refused before
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err == nil && strings.Contains(string(got), "HTTP") {
		t.Errorf("without a certificate it answers %q", got)
	}
}

// xdsCertificate writes the files of an authority, and of a certificate for localhost that is good for both sides.
func xdsCertificate(t *testing.T) (ca, cert, key string) {
	t.Helper()
	a := newAuthority(t)
	issued, err := a.issue("localhost", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert = tempFile(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate[0]}))
	key = filepath.Join(filepath.Dir(cert), "key.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a.file(t), cert, key
}
