package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// handshake is what a server does in TLS handshakes. It is safe for concurrent use.
type handshake struct {
	name string // that is asked for

	mu    sync.Mutex
	done  bool
	certs []*x509.Certificate // of the server
	proto string              // that was negotiated
	asked bool                // for a certificate of ours
	alert error               // why the server refused the handshake
}

func (h *handshake) note(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
}

// config accepts any server, and has what it does noted.
func (h *handshake) config() *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			h.note(func() { h.done, h.certs, h.proto = true, state.PeerCertificates, state.NegotiatedProtocol })
			return nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			h.note(func() { h.asked = true })
			return new(tls.Certificate), nil // none
		}}
	if _, err := netip.ParseAddr(h.name); err != nil {
		config.ServerName = h.name
	}
	return config
}

// secure returns a connection for HTTP/2 over TLS, or closes the one that it is given.
func (h *handshake) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	secure := tls.Client(conn, h.config())
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		h.note(func() { h.alert = alertOf(err) })
		return nil, err
	}
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		conn.Close()
		return nil, errors.New("no HTTP/2")
	}
	return secure, nil
}

// alertOf returns the alert by which a TLS server ended a handshake, nil if the handshake failed otherwise.
func alertOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err
	}
	return nil
}

// judge says what an instance speaks, by what was heard over TLS, and by the error of the first question.
func (h *handshake) judge(heard speech, err error) speech {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := heard
	found.tls, found.certs = h.done, h.certs
	switch {
	case found.grpc || found.what != "":
	case !found.tls && h.alert != nil:
		found.tls, found.what = true, fmt.Sprintf("refuses HTTP/2 over TLS (ALPN h2) for the name %q: %s", h.name, h.alert)
	case !found.tls:
	case err != nil && h.asked: // how a server refuses whoever has none differs
		found.wantsCert = true
	case h.proto != "h2":
		found.what = "speaks TLS, but offers no HTTP/2 in it (ALPN h2)"
	case errors.Is(err, context.DeadlineExceeded):
		found.mute = true
	default:
		found.what = "speaks TLS, but answers no HTTP/2 request in it"
	}
	return found
}
