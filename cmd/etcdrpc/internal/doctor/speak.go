package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

// maxFirst bounds what is kept of what a port says that is no answer, in bytes.
const maxFirst = 48

// spot is an instance of a service, as its clients see it.
type spot struct{ key, addr string }

// partner is whom to speak to, with the name that TLS knows it by, and the services whose health it is asked for besides
// its own.
type partner struct {
	spot
	tlsName  string
	services []string
}

// speech is what an instance was found to speak.
type speech struct {
	tls       bool
	certs     []*x509.Certificate // of the server, over TLS
	wantsCert bool                // it speaks to clients with a certificate alone, so the rest is not known
	grpc      bool
	mute      bool              // it speaks HTTP/2, but answers nothing in time
	what      string            // what it speaks instead of gRPC, in words that follow the address
	health    map[string]answer // by service, of which "" is the server as a whole
}

// speaker connects to instances, and speaks to them.
type speaker struct {
	dial     dialing.Func
	tlsFirst bool          // TLS is what is expected
	timeout  time.Duration // of each connection, with all that is said on it
}

// connect has something done with a connection to an address, which is closed after that and when the time is up.
func (s *speaker) connect(ctx context.Context, addr string, do func(context.Context, net.Conn)) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	do(ctx, conn)
	return nil
}

// probe connects to each address, and returns why it could not to those that did not answer in time.
func (s *speaker) probe(ctx context.Context, addresses []string) map[string]error {
	errs := make([]error, len(addresses))
	parallel.Each(len(addresses), dialing.Most, func(n int) {
		errs[n] = s.connect(ctx, addresses[n], func(context.Context, net.Conn) {})
	})
	dead := make(map[string]error)
	for n, err := range errs {
		if err != nil {
			dead[addresses[n]] = err
		}
	}
	return dead
}

// speakAll speaks to each partner, and returns what each speaks.
func (s *speaker) speakAll(ctx context.Context, partners []partner) map[spot]speech {
	all := make([]speech, len(partners))
	parallel.Each(len(partners), dialing.Most, func(n int) { all[n] = s.speak(ctx, partners[n]) })
	heard := make(map[spot]speech, len(partners))
	for n, to := range partners {
		heard[to.spot] = all[n]
	}
	return heard
}

// speak tries what is expected first, so that a server which speaks it logs nothing odd. A port that understands neither is
// judged by the first that it says.
func (s *speaker) speak(ctx context.Context, to partner) speech {
	tries := []func(context.Context, partner) speech{s.plain, s.overTLS}
	if s.tlsFirst {
		slices.Reverse(tries)
	}
	for _, try := range tries {
		if found := try(ctx, to); found.grpc || found.tls || found.what != "" {
			return found
		}
	}
	return misspoken(s.sniff(ctx, to.addr))
}

// sniff returns the first that a port says to the preface of HTTP/2 alone, none if it says nothing. A server that reads all
// that it is sent before it closes the connection loses nothing of its answer.
func (s *speaker) sniff(ctx context.Context, addr string) (first []byte) {
	_ = s.connect(ctx, addr, func(_ context.Context, conn net.Conn) { // what fails has answered nothing
		if _, err := strings.NewReader("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").WriteTo(conn); err != nil {
			return
		}
		said := make([]byte, maxFirst)
		n, _ := conn.Read(said)
		first = said[:n]
	})
	return first
}

// plain speaks HTTP/2 without TLS.
func (s *speaker) plain(ctx context.Context, to partner) (found speech) {
	_ = s.connect(ctx, to.addr, func(ctx context.Context, conn net.Conn) {
		another := func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, "tcp", to.addr) }
		_ = s.converse(ctx, asker{over(conn, another), "http://" + to.addr, to.tlsName}, to.services, &found) // what is not understood leaves nothing found
	})
	return found
}

// overTLS speaks HTTP/2 over TLS, whoever the server is: who it is, is looked at later.
func (s *speaker) overTLS(ctx context.Context, to partner) (found speech) {
	_ = s.connect(ctx, to.addr, func(ctx context.Context, conn net.Conn) {
		another := func(ctx context.Context) (net.Conn, error) {
			conn, err := s.dial(ctx, "tcp", to.addr)
			if err != nil {
				return nil, err
			}
			return tls.Client(conn, new(speech).tlsConfig(to.tlsName, new(bool))), nil
		}
		asked := false
		secure := tls.Client(conn, found.tlsConfig(to.tlsName, &asked))
		err := secure.HandshakeContext(ctx)
		offered := secure.ConnectionState().NegotiatedProtocol == "h2"
		if err == nil && offered {
			err = s.converse(ctx, asker{over(secure, another), "https://" + to.addr, to.tlsName}, to.services, &found)
		}
		var alert *net.OpError
		switch {
		case found.grpc, found.what != "":
		case !found.tls && errors.As(err, &alert) && alert.Op == "remote error":
			found.tls, found.what = true, fmt.Sprintf("refuses HTTP/2 over TLS (ALPN h2) for the name %q: %s", to.tlsName, alert.Err)
		case !found.tls:
		case asked && (err != nil || !offered): // how a server refuses whoever has none differs
			found.wantsCert = true
		case !offered:
			found.what = "speaks TLS, but offers no HTTP/2 in it (ALPN h2)"
		case ctx.Err() != nil:
			found.mute = true
		default:
			found.what = "speaks TLS, but answers no HTTP/2 request in it"
		}
	})
	return found
}

// tlsConfig accepts any server, has what it shows noted, and whether it asked for a certificate.
func (found *speech) tlsConfig(name string, asked *bool) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			found.tls, found.certs = true, state.PeerCertificates
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*asked = true
			return new(tls.Certificate), nil // none
		}}
	if _, err := netip.ParseAddr(name); err != nil {
		config.ServerName = name
	}
	return config
}

// misspoken judges a port that let no question of HTTP/2 be answered, with TLS or without, by the first that it said.
func misspoken(first []byte) speech {
	switch {
	case len(first) == 0:
		return speech{what: "accepts connections, but answers neither HTTP/2 nor TLS"}
	case isSettings(first):
		return speech{mute: true}
	case bytes.HasPrefix(first, []byte("HTTP/1")):
		return speech{what: "speaks HTTP/1, not HTTP/2"}
	}
	return speech{what: fmt.Sprintf("answers HTTP/2 with %q", first)}
}

// isSettings reports whether text begins with the SETTINGS frame with which HTTP/2 servers begin.
func isSettings(text []byte) bool {
	const header, frameType, settings = 9, 3, 4
	return len(text) >= header && text[frameType] == settings && binary.BigEndian.Uint32(text[5:header]) == 0
}
