package doctor

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
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
	began := time.Now()
	for _, try := range tries {
		found := try(ctx, to)
		if found.grpc || found.tls || found.what != "" {
			return found
		}
		first = append(first, found.first...)
	}
	if len(first) == 0 && time.Since(began) < s.timeout {
		first = s.sniff(ctx, to.addr) // it closed the connections, and what it said may be lost with them
	}
	return misspoken(first)
}

// sniff returns the first that a port says to the preface of HTTP/2 alone, none if it says nothing. A server that reads all
// that it is sent before it closes the connection loses nothing of its answer.
func (s *speaker) sniff(ctx context.Context, addr string) []byte {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := strings.NewReader("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").WriteTo(conn); err != nil {
		return nil
	}
	said := make([]byte, maxFirst)
	n, _ := conn.Read(said) // what fails has answered nothing
	return said[:n]
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
	h := &handshake{name: to.tlsName}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{Protocols: protocols, MaxResponseHeaderBytes: maxHeaders, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := s.dial(ctx, "tcp", to.addr)
		if err != nil {
			return nil, err
		}
		return h.secure(ctx, conn)
	}}
	defer transport.CloseIdleConnections()
	var heard speech
	err := s.converse(ctx, transport, "https", to, &heard)
	return h.judge(heard, err)
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

// probe connects to each address, and returns why it could not to those that did not answer in time.
func probe(ctx context.Context, dial dialing.Func, addresses []string, timeout time.Duration) map[string]error {
	var mu sync.Mutex
	dead := make(map[string]error)
	parallel.Each(len(addresses), dialing.Most, func(n int) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := dial(ctx, "tcp", addresses[n])
		if err == nil {
			conn.Close()
			return
		}
		mu.Lock()
		defer mu.Unlock()
		dead[addresses[n]] = err
	})
	return dead
}
