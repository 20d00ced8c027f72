package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
)

// Bounds of what is asked and read of one instance.
const (
	maxAnswer    = 4 << 10  // bytes of an answer
	maxHeaders   = 16 << 10 // bytes of its headers
	maxHealthOf  = 8        // services whose health is asked for
	grpcContent  = "application/grpc"
	healthMethod = "/grpc.health.v1.Health/Check"
)

// http2Preface is what an HTTP/2 client begins with, and an empty SETTINGS frame.
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// partner is whom to speak to: an address, with the name that TLS knows it by, and the services whose health it is asked
// for besides its own.
type partner struct {
	addr, tlsName string
	services      []string
}

// speech is what an instance was found to speak.
type speech struct {
	tls        bool
	certs      []*x509.Certificate // of the server, over TLS
	wantsCert  bool                // it speaks to clients with a certificate alone, so the rest is not known
	grpc       bool
	mute       bool     // it speaks HTTP/2, but answers nothing in time
	what       string   // what it speaks instead of gRPC, in words that follow the address
	notServing []string // services that say so, "" for the server as a whole
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

// speak tries what is expected first, so that a server which speaks it logs nothing odd.
func (s *speaker) speak(ctx context.Context, to partner) speech {
	tries := []func(context.Context, partner) speech{s.plain, s.overTLS}
	if s.tlsFirst {
		tries[0], tries[1] = tries[1], tries[0]
	}
	var found speech
	for _, try := range tries {
		if found = try(ctx, to); found.grpc || found.tls || found.what != "" {
			return found
		}
	}
	return s.sniff(ctx, to.addr)
}

// plain speaks HTTP/2 without TLS. The zero value is returned if that is not understood.
func (s *speaker) plain(ctx context.Context, to partner) speech {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, MaxResponseHeaderBytes: maxHeaders, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.dial(ctx, "tcp", to.addr)
	}}
	defer transport.CloseIdleConnections()
	var found speech
	if err := s.converse(ctx, transport, "http", to, &found); err != nil {
		return speech{}
	}
	return found
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
	found.grpc, found.what, found.notServing = heard.grpc, heard.what, heard.notServing
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

// converse asks for the health of the server and of its services, and notes what the answers say. The error is of the first
// question: that it was not understood at all.
func (s *speaker) converse(ctx context.Context, over http.RoundTripper, scheme string, to partner, found *speech) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for n, service := range append([]string{""}, to.services[:min(len(to.services), maxHealthOf)]...) {
		a, err := ask(ctx, over, scheme, to, service)
		switch {
		case err != nil && n == 0:
			return err
		case err != nil || !a.grpc:
			if n == 0 {
				found.what = a.what
			}
			return nil
		}
		found.grpc = true
		if a.notServing {
			found.notServing = append(found.notServing, service)
		}
	}
	return nil
}

// answer is what came back to one question.
type answer struct {
	grpc, notServing bool
	what             string
}

// ask asks for the health of one service. A server that does not know the method, or the service, speaks gRPC all the same.
func ask(ctx context.Context, over http.RoundTripper, scheme string, to partner, service string) (answer, error) {
	var message []byte
	if service != "" {
		message = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	}
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+to.addr+healthMethod, bytes.NewReader(append(body, message...)))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", grpcContent)
	req.Header.Set("Te", "trailers")
	if to.tlsName != "" {
		req.Host = to.tlsName
	}
	resp, err := over.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if content := resp.Header.Get("Content-Type"); !strings.HasPrefix(content, grpcContent) {
		return answer{what: fmt.Sprintf("answers gRPC with HTTP status %d and the content type %.40q", resp.StatusCode, content)}, nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{grpc: true}, nil
	}
	return answer{grpc: true, notServing: saysNotServing(raw)}, nil
}

// saysNotServing reports whether the answer of a health check is NOT_SERVING.
func saysNotServing(raw []byte) bool {
	const header = 5 // a flag for compression, and the length
	const statusField, notServing = 1, 2
	if len(raw) < header || raw[0] != 0 {
		return false
	}
	for raw = raw[header:]; len(raw) > 0; {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return false
		}
		if raw = raw[n:]; number == statusField && kind == protowire.VarintType {
			status, n := protowire.ConsumeVarint(raw)
			return n > 0 && status == notServing
		}
		if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
			return false
		}
		raw = raw[n:]
	}
	return false
}

// sniff hears what a port answers that let no question of HTTP/2 be answered, with TLS or without.
func (s *speaker) sniff(ctx context.Context, addr string) speech {
	silent := speech{what: "accepts connections, but answers neither HTTP/2 nor TLS"}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return silent
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := strings.NewReader(http2Preface).WriteTo(conn); err != nil {
		return silent
	}
	first := make([]byte, 48)
	n, _ := conn.Read(first) // what fails has answered nothing
	switch {
	case n == 0:
		return silent
	case isSettings(first[:n]):
		return speech{mute: true}
	case bytes.HasPrefix(first, []byte("HTTP/1")):
		return speech{what: "speaks HTTP/1, not HTTP/2"}
	}
	return speech{what: fmt.Sprintf("answers HTTP/2 with %q", first[:n])}
}

// isSettings reports whether text begins with the SETTINGS frame with which HTTP/2 servers begin.
func isSettings(text []byte) bool {
	const header, frameType, settings = 9, 3, 4
	return len(text) >= header && text[frameType] == settings && binary.BigEndian.Uint32(text[5:header]) == 0
}
