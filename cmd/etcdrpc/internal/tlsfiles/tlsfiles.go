// Package tlsfiles reads the files of a TLS configuration that flags name.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// Files name the files of a TLS configuration. Any may be "".
type Files struct {
	Prefix        string // of the flags that name them
	CA, Cert, Key string
}

// Config returns the TLS configuration that the files make. Each handshake reads the certificate and the key again.
func (f Files) Config() (*tls.Config, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, usage.Mistake(fmt.Errorf("--%[1]scert and --%[1]skey go together", f.Prefix))
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		var err error
		if cfg.RootCAs, err = Pool(fmt.Sprintf("--%scacert", f.Prefix), f.CA); err != nil {
			return nil, err
		}
	}
	if f.Cert != "" {
		own := &pair{Files: f}
		if _, err := own.read(); err != nil {
			return nil, fmt.Errorf("--%[1]scert and --%[1]skey: %[2]w", f.Prefix, err)
		}
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.latest(), nil }
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.latest(), nil }
	}
	return cfg, nil
}

// pair is a certificate and its key, which are renewed in their files.
type pair struct {
	Files
	good atomic.Pointer[tls.Certificate] // what was read last
}

func (p *pair) read() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err == nil {
		p.good.Store(&cert)
	}
	return &cert, err
}

// latest reads the files for a handshake. While one is half written, or not the other's, the pair before them serves on.
func (p *pair) latest() *tls.Certificate {
	if cert, err := p.read(); err == nil {
		return cert
	}
	return p.good.Load()
}

// Pool reads the authorities in a file.
func Pool(flag, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", flag, file)
	}
	return pool, nil
}
