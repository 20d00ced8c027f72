// Package tlsfiles reads the files of a TLS configuration, named by flags.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// Files are the names of the files of a TLS configuration. Each may be "".
type Files struct {
	Prefix        string // of the flags
	CA, Cert, Key string
	ClientCA      string // a server accepts only clients with certificates of these CAs
}

// Config returns the TLS configuration. A client rereads the certificate and the key at each handshake, which fails if they do not match.
func (f Files) Config() (cfg *tls.Config, err error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, usage.Mistake(fmt.Errorf("--%[1]scert and --%[1]skey must be given together", f.Prefix))
	}
	cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		if cfg.RootCAs, err = Pool(fmt.Sprintf("--%scacert", f.Prefix), f.CA); err != nil {
			return nil, err
		}
	}
	if f.Cert != "" {
		pair, err := f.pair()
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{*pair}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	}
	if f.ClientCA != "" {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs, err = Pool("--client-cacert", f.ClientCA)
	}
	return cfg, err
}

// Server returns the configuration of a server, which rereads all files at each handshake. If they are invalid, it uses the previous
// ones.
func (f Files) Server(logger *slog.Logger) (*tls.Config, error) {
	first, err := f.Config()
	var last atomic.Pointer[tls.Config]
	last.Store(first)
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if cfg, err := f.Config(); err != nil {
			logger.Warn("the TLS files are invalid; the previous ones stay in use", "error", err)
		} else {
			last.Store(cfg)
		}
		return last.Load(), nil
	}}, err
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
