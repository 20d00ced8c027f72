// Package tlsfiles reads the files of a TLS configuration, named by flags.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// Files are the names of the files of a TLS configuration. Each may be "".
type Files struct {
	Prefix        string // of the flags
	CA, Cert, Key string
}

// Config returns the TLS configuration. Each handshake reads the certificate and the key again.
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
		pair := &keyPair{Files: f}
		if _, err := pair.read(); err != nil {
			return nil, fmt.Errorf("--%[1]scert and --%[1]skey: %[2]w", f.Prefix, err)
		}
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.latest(), nil }
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.latest(), nil }
	}
	return cfg, nil
}

// keyPair is a certificate and its key. Their files may be renewed at any time.
type keyPair struct {
	Files
	last atomic.Pointer[tls.Certificate] // last valid pair
}

func (p *keyPair) read() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err == nil {
		p.last.Store(&cert)
	}
	return &cert, err
}

// latest reads the pair for a handshake. If the files are invalid, as while they are renewed, it returns the last valid pair.
func (p *keyPair) latest() *tls.Certificate {
	if cert, err := p.read(); err == nil {
		return cert
	}
	return p.last.Load()
}

// Pool reads the CA certificates in a file.
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
