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
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

// Bounds of what is read of one instance, in bytes.
const (
	maxAnswer  = 4 << 10  // of an answer
	maxHeaders = 16 << 10 // of its headers
	maxFirst   = 48       // of what is no answer
)

// partner is whom to speak to: an address, with the name that TLS knows it by, and the services whose health it is asked
// for besides its own.
type partner struct {
	addr, tlsName string
	services      []string
}

// speech is what an instance was found to speak.
type speech struct {
	tls       bool
	certs     []*x509.Certificate // of the server, over TLS
	wantsCert bool                // it speaks to clients with a certificate alone, so the rest is not known
	grpc      bool
	mute      bool   // it speaks HTTP/2, but answers nothing in time
	what      string // what it speaks instead of gRPC, in words that follow the address
	first     []byte // what it began to say without TLS
	health
}

// speaker speaks to instances.
type speaker struct {
	dial     dialing.Func
	tlsFirst bool // TLS is what is expected
	timeout  time.Duration
}

// speakAll speaks to each partner, and returns what each speaks.
func (s *speaker) speakAll(ctx context.Context, partners []partner) []speech {
	all := make([]speech, len(partners))
	parallel.Each(len(partners), dialing.Most, func(n int) { all[n] = s.speak(ctx, partners[n]) })
	return all
}

// speak tries what is expected first, so that a server which speaks it logs nothing odd. What a port says that understands
// neither is judged by the first of it.
func (s *speaker) speak(ctx context.Context, to partner) speech {
	tries := []func(context.Context, partner) speech{s.plain, s.overTLS}
	if s.tlsFirst {
		tries[0], tries[1] = tries[1], tries[0]
	}
	var first []byte
	for _, try := range tries {
		found := try(ctx, to)
		if found.grpc || found.tls || found.what != "" {
			return found
		}
		first = append(first, found.first...)
	}
	return misspoken(first)
}

// plain speaks HTTP/2 without TLS. If that is not understood, only what the port began to say is returned.
func (s *speaker) plain(ctx context.Context, to partner) speech {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	var heard first
	transport := &http.Transport{Protocols: protocols, MaxResponseHeaderBytes: maxHeaders, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := s.dial(ctx, "tcp", to.addr)
		if err != nil {
			return nil, err
		}
		return recorded{conn, &heard}, nil
	}}
	defer transport.CloseIdleConnections()
	var found speech
	if err := s.converse(ctx, transport, "http", to, &found); err != nil {
		return speech{first: heard.text()}
	}
	return found
}

// first is the first of what a port says. It is safe for concurrent use.
type first struct {
	mu   sync.Mutex
	said []byte
}

func (f *first) text() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.Clone(f.said)
}

// recorded is a connection of which the first that is read is kept.
type recorded struct {
	net.Conn
	first *first
}

func (r recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.first.mu.Lock()
	defer r.first.mu.Unlock()
	r.first.said = append(r.first.said, b[:min(n, maxFirst-len(r.first.said))]...)
	return n, err
}

// overTLS speaks HTTP/2 over TLS, whoever the server is: who it is, is looked at later.
func (s *speaker) overTLS(ctx context.Context, to partner) speech {
	var (
		mu    sync.Mutex
		found speech
		proto string
		asked bool  // for a certificate of ours
		alert error // why the server refused the handshake
	)
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			found.tls, found.certs, proto = true, state.PeerCertificates, state.NegotiatedProtocol
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = true
			return new(tls.Certificate), nil // none
		}}
	if _, err := netip.ParseAddr(to.tlsName); err != nil {
		config.ServerName = to.tlsName
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, MaxResponseHeaderBytes: maxHeaders, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := s.dial(ctx, "tcp", to.addr)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			mu.Lock()
			defer mu.Unlock()
			alert = alertOf(err)
			return nil, err
		}
		if secure.ConnectionState().NegotiatedProtocol != "h2" {
			conn.Close()
			return nil, errors.New("no HTTP/2")
		}
		return secure, nil
	}}
	defer transport.CloseIdleConnections()
	var heard speech
	err := s.converse(ctx, transport, "https", to, &heard)
	mu.Lock()
	defer mu.Unlock()
	found.grpc, found.what, found.health = heard.grpc, heard.what, heard.health
	switch {
	case found.grpc || found.what != "":
	case !found.tls && alert != nil:
		found.tls, found.what = true, fmt.Sprintf("refuses HTTP/2 over TLS (ALPN h2) for the name %q: %s", to.tlsName, alert)
	case !found.tls:
	case err != nil && asked: // how a server refuses whoever has none differs
		found.wantsCert = true
	case proto != "h2":
		found.what = "speaks TLS, but offers no HTTP/2 in it (ALPN h2)"
	case errors.Is(err, context.DeadlineExceeded):
		found.mute = true
	default:
		found.what = "speaks TLS, but answers no HTTP/2 request in it"
	}
	return found
}

// alertOf returns the alert by which a TLS server ended a handshake, nil if the handshake failed otherwise.
func alertOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err
	}
	return nil
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
