package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcxds "google.golang.org/grpc/xds"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// stalled is a standard error whose writes block after the first line.
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

// TestXDS checks that clients with a certificate, and the status page, are
// served even while the reader of the log stalls.
func TestXDS(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	_, server := healthServer(t)
	putKey(t, etcd, "acme/user/a", fmt.Sprintf(`{"Addr":%q}`, server))

	// xDS has no slow start, so a line is logged
	putKey(t, etcd, "_grpc_config/acme/user",
		`{"loadBalancingConfig":[{"etcd":{"slowStart":{"window":"10s"}}}]}`)
	ca, cert, key := certificateFiles(t)
	stderr := &stalled{stalls: make(chan struct{}), again: make(chan struct{})}
	code := make(chan int, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		code <- newApp().execute(ctx,
			at(etcd, "xds", "--listen", "127.0.0.1:0", "--http", ":0", "--service", "acme/user",
				"--service",
				"acme/other=other.example:443",
				"--server-cert", cert, "--server-key", key, "--client-cacert", ca), io.Discard,
			stderr)
	}()

	defer func() {
		stop()
		close(stderr.again)

		if got := ends(t, code); got != exitFine {
			t.Errorf("xds ends with exit code %d, want %d: %s", got, exitFine, stderr)
		}
	}()

	const at = `Serving xDS at \S+:(\d+), and its status at (http://localhost:\d+)/`
	must(t, stderr.wait(at))
	found := regexp.MustCompile(at).FindStringSubmatch(stderr.String())

	bootstrap, errs, exit := executed(t, newApp(), "xds", "bootstrap", "--server", "localhost:"+
		found[1], "--id", "client-7",
		"--server-cacert", ca, "--client-cert", cert, "--client-key", key)
	if exit != exitFine {
		t.Fatal(errs)
	}

	builder, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(bootstrap))
	must(t, err)
	client, err := grpc.NewClient("xds:///acme.user", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	calling, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()

	_, err = healthpb.NewHealthClient(client).Check(calling, &healthpb.HealthCheckRequest{},
		grpc.WaitForReady(true))
	must(t, err)
	<-stderr.stalls

	page := browser{t, found[2]}
	for path, want := range map[string]string{
		"/":        "client client-7  gRPC Go",
		"/healthz": "ok",
		"/metrics": `etcdrpc_xds_endpoints{authority="acme.user"} 1`,
	} {
		page.await(path, regexp.QuoteMeta(want))
	}

	conn, err := tls.Dial("tcp", "localhost:"+found[1], &tls.Config{
		InsecureSkipVerify: true,
		NextProtos:         []string{"h2"},
	}) //nolint:gosec // the server's certificate does not matter

	must(t, err)

	defer func() { _ = conn.Close() }() // the server has closed the connection already

	if _, err := io.ReadAll(conn); err == nil ||
		!strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a client without a certificate: error %v, want that one is required", err)
	}
}

// certificateFiles writes the files of an authority, and of a certificate for
// localhost that is valid for servers and clients.
func certificateFiles(t *testing.T) (ca, cert, key string) {
	t.Helper()

	a := newAuthority(t)
	issued, err := a.issue("localhost", time.Now().Add(time.Hour))
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	must(t, err)
	pair := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate[0]})
	cert = tempFile(t, "pair.pem",
		append(pair, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})...))

	return a.file(t), cert, cert
}
