package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// TestConfig_Renewed checks that each handshake rereads the files, and that a
// server keeps the last good ones.
func TestConfig_Renewed(t *testing.T) {
	cert := filepath.Join(t.TempDir(), "cert.pem")
	key := filepath.Join(t.TempDir(), "key.pem")
	f := Files{Cert: cert, Key: key, ClientCA: cert}
	issue(t, 1, f.Cert, f.Key)
	var logs strings.Builder
	cfg, err := f.Server(slog.New(slog.NewTextHandler(&logs, nil)))
	must.Succeed(t, err)
	first, _ := cfg.GetConfigForClient(nil)
	issue(t, 2, f.Cert, f.Key)

	client, err := first.GetClientCertificate(nil)
	if err != nil || client.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("GetClientCertificate() = %v, %v, want the certificate with serial number 2",
			client, err)
	}

	server, err := cfg.GetConfigForClient(nil)

	pool, _ := Pool("", f.ClientCA)
	if err != nil ||
		server.Certificates[0].Leaf.SerialNumber.Int64() != 2 ||
		!server.ClientCAs.Equal(pool) {
		t.Errorf(
			"GetConfigForClient() = %v, %v, want the certificate with serial number 2, as a CA, too",
			server, err)
	}

	issue(t, 3, f.Cert, os.DevNull)

	if last, err := cfg.GetConfigForClient(nil); last != server ||
		err != nil ||
		!strings.Contains(logs.String(), "--cert and --key") {
		t.Errorf("GetConfigForClient() = %v, %v for a missing key, logs %q, want the last good files and a warning",
			last, err, &logs)
	}
}

// issue writes a self-signed certificate and its key.
func issue(t *testing.T, serial int64, certFile, keyFile string) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must.Succeed(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must.Succeed(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must.Succeed(t, err)

	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		must.Succeed(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
}
