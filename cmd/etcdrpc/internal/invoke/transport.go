package invoke

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/tlsfiles"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// reachTimeout bounds how long an instance may take to accept a connection, where others may be called instead.
const reachTimeout = 2 * time.Second

// maxResponse bounds a message that an instance sends: more than gRPC's 4 MB, for operators ask for much.
const maxResponse = 64 << 20

// Transport says how to connect to instances.
type Transport struct {
	Plaintext bool
	Files     tlsfiles.Files
	Authority string
}

// AddTo adds the flags that say whom to trust of somebody, and as whom to connect to them.
func (t *Transport) AddTo(flags *pflag.FlagSet, whom string) {
	t.Files.Prefix = "service-"
	flags.StringVar(&t.Files.CA, "service-cacert", "", "verify "+whom+"'s certificate with the CA bundle in this `file`, not with the system's")
	flags.StringVar(&t.Files.Cert, "service-cert", "", "identify to "+whom+" by the TLS certificate in this `file`")
	flags.StringVar(&t.Files.Key, "service-key", "", "the TLS key `file` of --service-cert")
	flags.StringVar(&t.Authority, "authority", "", "the `name` that "+whom+"'s certificate has to have, as authority in the proto file (default: the one that KEY gives)")
}

// Check fills in the authority that clients of a key have by default, and returns the TLS configuration, nil for plaintext.
func (t *Transport) Check(key string) (*tls.Config, error) {
	if t.Plaintext && (t.Files.CA != "" || t.Files.Cert != "" || t.Files.Key != "") {
		return nil, usage.Mistake(errors.New("--plaintext excludes --service-cacert, --service-cert and --service-key"))
	}
	if t.Authority != "" {
		if err := servicekey.CheckAuthority(t.Authority); err != nil {
			return nil, usage.Mistake(fmt.Errorf("--authority: %q %w", t.Authority, err))
		}
	} else if authority, ok := servicekey.Authority(key); ok {
		t.Authority = authority
	} else if !t.Plaintext {
		return nil, usage.Mistake(fmt.Errorf("the key %q gives no host name that a certificate could have: give the authority that the proto sets by --authority, or --plaintext", key))
	}
	if t.Plaintext {
		return nil, nil
	}
	return t.Files.Config()
}

// Link is a connection to one instance.
type Link struct {
	*grpc.ClientConn
	accepted atomic.Pointer[attempt] // the last attempt to connect; nil: TCP did not accept it
}

// attempt is a connection that TCP accepted.
type attempt struct{ err error } // of the TLS handshake

// Connect makes a connection to an address. cfg is nil for plaintext.
func (t *Transport) Connect(addr string, cfg *tls.Config, dial dialing.Func) (*Link, error) {
	l := new(Link)
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = noted{credentials.NewTLS(cfg), l}
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("etcdrpc"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := dial(ctx, "tcp", addr)
			if l.accepted.Store(nil); err == nil {
				l.accepted.Store(new(attempt))
			}
			return conn, err
		}),
	}
	if t.Authority != "" {
		opts = append(opts, grpc.WithAuthority(t.Authority))
	}
	var err error
	l.ClientConn, err = grpc.NewClient("passthrough:///"+addr, opts...)
	return l, err
}

// Reach reports whether the connection comes about in time.
func (l *Link) Reach(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	l.Connect()
	for {
		state := l.GetState()
		switch {
		case state == connectivity.Ready:
			return true
		case state == connectivity.TransientFailure || !l.WaitForStateChange(ctx, state):
			return false
		}
	}
}

// Hint says what may help where an instance accepts connections and yet could not be spoken to, "" if nothing is known to.
func (l *Link) Hint(t *Transport) string {
	last := l.accepted.Load()
	if l.GetState() == connectivity.Ready || last == nil {
		return ""
	}
	if t.Plaintext {
		return "if it speaks TLS, leave out --plaintext"
	}
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var refused *tls.CertificateVerificationError
	switch {
	case last.err == nil:
		return ""
	case errors.As(last.err, &unknown):
		return "--service-cacert FILE names the CA of its certificate"
	case errors.As(last.err, &wrongName):
		return fmt.Sprintf("its certificate does not name %s: --authority NAME gives what the proto sets", t.Authority)
	case errors.As(last.err, &refused): // it speaks TLS
		return ""
	}
	return "if it does not speak TLS, --plaintext calls it without"
}

// noted are credentials that note why handshakes fail, which gRPC tells as text only.
type noted struct {
	credentials.TransportCredentials
	link *Link
}

func (n noted) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, conn)
	n.link.accepted.Store(&attempt{err})
	return secured, info, err
}

func (n noted) Clone() credentials.TransportCredentials {
	return noted{n.TransportCredentials.Clone(), n.link}
}
