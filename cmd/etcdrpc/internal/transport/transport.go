// Package transport connects to the instances of a service as its clients do,
// and reads the files of TLS, configured by flags.
package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// DialFunc opens a TCP connection.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Transport configures connections to instances.
type Transport struct {
	Plaintext bool
	Authority string // the authority that the proto sets; "" selects the key's
	Files     Files
}

// AddTo adds the flags of TLS.
func (t *Transport) AddTo(flags *pflag.FlagSet) {
	t.Files.AddTo(flags, "service-",
		"verify the service's certificate with the CA bundle in this `file` (default: the system's)",
		"identify to the service by the TLS certificate in this `file`",
		"the TLS key `file` of --service-cert")

	flags.StringVar(&t.Authority, "authority", "",
		"the authority that the proto sets, a `name` of the service's certificate (default: KEY with . for /)")
}

// Secure reports whether a flag of TLS is given.
func (t *Transport) Secure() bool {
	return t.Authority+t.Files.CA+t.Files.Cert+t.Files.Key != ""
}

// Options returns the dial options for instances of the service at a key.
func (t *Transport) Options(key string, dial DialFunc) ([]grpc.DialOption, error) {
	opts, creds, err := t.Split(key, dial)
	return append(opts, grpc.WithTransportCredentials(creds)), err
}

// Split returns the dial options without transport credentials, and the
// credentials.
func (t *Transport) Split(
	key string,
	dial DialFunc,
) ([]grpc.DialOption, credentials.TransportCredentials, error) {
	if t.Plaintext && t.Files.CA+t.Files.Cert+t.Files.Key != "" {
		return nil, nil, errors.New(
			"--plaintext excludes --service-cacert, --service-cert and --service-key")
	}

	authority, ok := servicekey.Authority(key)

	if t.Authority != "" {
		if err := servicekey.CheckAuthority(t.Authority); err != nil {
			return nil, nil, fmt.Errorf("--authority: %q %w", t.Authority, err)
		}

		authority = t.Authority
		ok = true
	}

	opts := []grpc.DialOption{
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("etcdrpc"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dial(ctx, "tcp", addr)
		}),
	}
	if ok {
		opts = append(opts, grpc.WithAuthority(authority))
	}

	switch {
	case t.Plaintext:
		return opts, insecure.NewCredentials(), nil
	case !ok:
		return nil, nil, fmt.Errorf("the key %q gives no host name that a certificate could have: give --authority with the name that the proto sets", key)
	}

	cfg, err := t.Files.Config()
	if err != nil {
		return nil, nil, err
	}

	return opts, credentials.NewTLS(cfg), nil
}

// CheckHealth asks a server for the health of a service, "" for the whole
// server. isGRPC reports whether a gRPC server has answered: grpc-go turns the
// answer of a web server into an error with a code, too, but without metadata.
func CheckHealth(
	ctx context.Context,
	conn *grpc.ClientConn,
	service string,
) (health healthpb.HealthCheckResponse_ServingStatus, isGRPC bool, err error) {
	var header, trailer metadata.MD

	req := &healthpb.HealthCheckRequest{Service: service}
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, req,
		grpc.Header(&header), grpc.Trailer(&trailer))

	return resp.GetStatus(), len(header)+len(trailer) > 0, err
}

// Hint returns advice on the failure of a connection, "" if none is known.
// secure and plaintext describe the flags for TLS and for plaintext.
func Hint(problem, secure, plaintext string) string {
	for _, h := range []struct{ problem, hint string }{
		{"certificate required",
			"it wants a client certificate: --service-cert and --service-key"},
		{"error reading server preface", "if it speaks TLS, " + secure},
		{"first record does not look like a TLS handshake",
			"it does not speak TLS: " + plaintext},
		{"signed by unknown authority",
			"--service-cacert names the CA of its certificate"},
		{"x509: certificate is valid for",
			"--authority gives the name that the proto sets"},
	} {
		if strings.Contains(problem, h.problem) {
			return ": " + h.hint
		}
	}

	return ""
}

// Grpcurl returns the equivalent flags of grpcurl. Each ends with a space.
func (t *Transport) Grpcurl(key string) (flags string) {
	authority, _ := servicekey.Authority(key)
	authority = cmp.Or(t.Authority, authority)

	for _, flag := range [][2]string{
		{"authority", authority},
		{"cacert", t.Files.CA},
		{"cert", t.Files.Cert},
		{"key", t.Files.Key},
	} {
		if flag[1] != "" {
			flags += "-" + flag[0] + " " + output.Shell(flag[1]) + " "
		}
	}

	if t.Plaintext {
		flags += "-plaintext "
	}

	return flags
}

// Files are the names of the files of a TLS configuration. Each may be "".
type Files struct {
	Prefix        string // of the flags
	CA, Cert, Key string
	ClientCA      string // a server accepts only clients with certificates of these CAs
}

// AddTo adds the flags of a client. Their names begin with prefix; ca, cert and
// key are their help texts.
func (f *Files) AddTo(flags *pflag.FlagSet, prefix, ca, cert, key string) {
	f.Prefix = prefix
	flags.StringVar(&f.CA, prefix+"cacert", "", ca)
	flags.StringVar(&f.Cert, prefix+"cert", "", cert)
	flags.StringVar(&f.Key, prefix+"key", "", key)
}

// Config returns the TLS configuration. A client rereads the certificate and
// the key at each handshake, which fails if they do not match.
func (f Files) Config() (cfg *tls.Config, err error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, usage.Mistakef("--%[1]scert and --%[1]skey must be given together",
			f.Prefix)
	}

	cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		cfg.RootCAs, err = Pool(fmt.Sprintf("--%scacert", f.Prefix), f.CA)
		if err != nil {
			return nil, err
		}
	}

	if f.Cert != "" {
		pair, err := f.pair()
		if err != nil {
			return nil, err
		}

		cfg.Certificates = []tls.Certificate{*pair}
		cfg.GetClientCertificate =
			func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return f.pair()
			}
	}

	if f.ClientCA != "" {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs, err = Pool("--client-cacert", f.ClientCA)
	}

	return cfg, err
}

// Server returns the configuration of a server, which rereads all files at each
// handshake. If a file is invalid, the server uses the previous files.
func (f Files) Server(logger *slog.Logger) (*tls.Config, error) {
	first, err := f.Config()
	var last atomic.Pointer[tls.Config]
	last.Store(first)

	reread := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if cfg, err := f.Config(); err != nil {
			logger.Warn("the TLS files are invalid; the previous ones stay in use",
				"error", err)
		} else {
			last.Store(cfg)
		}

		return last.Load(), nil
	}

	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: reread}, err
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
