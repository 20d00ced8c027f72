package registration

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// TLS is the caller's: whatever is wrong with its files is an error there, and nothing here makes do
// without it.
func TestG12_NeverPlaintext(t *testing.T) {
	w := newWorld(t, nil)
	g := &greeter{}
	w.registered(g)

	bad := filepath.Join(t.TempDir(), "bad.pem")
	must(t, os.WriteFile(bad, []byte("no certificate"), 0o600))
	for _, file := range []string{bad, filepath.Join(t.TempDir(), "missing.pem")} {
		// As a program does that goes on in spite of the error.
		creds, err := credentials.NewClientTLSFromFile(file, "")
		if err == nil {
			t.Errorf("%s makes credentials", file)
		}
		if _, err := basic.NewGreeterClientFromEtcd(w.registry, grpc.WithTransportCredentials(creds)); err == nil || !strings.Contains(err.Error(), "transport") {
			t.Errorf("a client with the credentials of %s: %v, want gRPC's error", file, err)
		}
	}
	client, err := basic.NewGreeterClientFromEtcd(w.registry, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})))
	must(t, err)
	if _, err := client.SayHello(kit.Bounded(t, soon), &basic.HelloRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call over TLS to a server without: %v, want Unavailable", err)
	}
	if n := g.calls.Load(); n > 0 {
		t.Errorf("%d calls left in plaintext", n)
	}
}
