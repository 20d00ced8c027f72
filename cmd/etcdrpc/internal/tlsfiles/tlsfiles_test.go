package tlsfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

// TestConfig_Renewed checks that each handshake uses the pair in the files.
func TestConfig_Renewed(t *testing.T) {
	dir := t.TempDir()
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	issue(t, 1, f.Cert, f.Key)
	cfg, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	issue(t, 2, f.Cert, f.Key)
	server, err := cfg.GetCertificate(nil)
	if err != nil || server.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("GetCertificate() = %v, %v, want the certificate with serial number 2", server, err)
	}
	client, err := cfg.GetClientCertificate(nil)
	if err != nil || client.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("GetClientCertificate() = %v, %v, want the certificate with serial number 2", client, err)
	}
	issue(t, 3, f.Cert, os.DevNull)
	if _, err := cfg.GetCertificate(nil); err == nil {
		t.Error("GetCertificate() accepts a certificate whose key is missing, want an error")
	}
}

// issue writes a self-signed certificate and its key.
func issue(t *testing.T, serial int64, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
