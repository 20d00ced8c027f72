// Package tlsfiles reads the files of a TLS configuration, named by flags.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// Files are the names of the files of a TLS configuration. Each may be "".
type Files struct {
	Prefix        string // of the flags
	CA, Cert, Key string
}

// Config returns the TLS configuration. Each handshake rereads the certificate and the key, and fails if they do not match.
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
		if _, err := f.pair(); err != nil {
			return nil, err
		}
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.pair() }
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	}
	return cfg, nil
}

// pair reads the certificate and its key.
func (f Files) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("--%[1]scert and --%[1]skey: %[2]w", f.Prefix, err)
	}
	return &pair, nil
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
