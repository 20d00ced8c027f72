package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
)

// The transports of servers.
const (
	speaksTLS       = "TLS"
	speaksPlaintext = "plaintext"
)

// way is a transport to the instances of a service.
type way struct {
	options     []grpc.DialOption
	credentials credentials.TransportCredentials
	err         error // why there is no such transport
}

// waysTo returns the transport of the flags, and then the other one.
func (d *Options) waysTo(key string, dial transport.DialFunc) []way {
	ways := make([]way, 2)
	for n, plaintext := range []bool{d.plaintext, !d.plaintext} {
		t := transport.Transport{Plaintext: plaintext, Authority: d.authorities[key]}
		if !plaintext {
			t.Files.CA = d.caFile
		}
		ways[n].options, ways[n].credentials, ways[n].err = t.Split(key, dial)
	}
	return ways
}

// watchedCredentials keep the result of the last TLS handshake.
type watchedCredentials struct {
	credentials.TransportCredentials
	last atomic.Pointer[healthResult]
}

// ClientHandshake implements [credentials.TransportCredentials].
func (w *watchedCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	a := &healthResult{speaks: speaksTLS, kind: KindCertificate}
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		a.problem = refusal(refused.Err)
		w.last.Store(a)
	} else if of, ok := info.(credentials.TLSInfo); ok {
		if a.problem, a.severity = ending(of.State.VerifiedChains), Warning; a.problem == "" {
			a.kind = ""
		}
		w.last.Store(a)
	}
	return conn, info, err
}

// addTo adds the result of the handshake to that of the health check.
func (w *watchedCredentials) addTo(a *healthResult) {
	if last := w.last.Load(); last != nil {
		a.speaks = last.speaks
		if last.kind != "" && (a.kind == "" || last.severity == "") {
			a.kind, a.problem, a.severity = last.kind, last.problem, last.severity
		}
	}
}

// refusal describes why clients refuse a certificate.
func refusal(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired { // err has the current time
		return fmt.Sprintf("its certificate is valid only from %s to %s", timeText(invalid.Cert.NotBefore), timeText(invalid.Cert.NotAfter))
	}
	return err.Error()
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ending returns when a certificate of the chain that lasts longest ends, "" if that is not soon. Certificates of less than a week
// are renewed by programs, after two thirds of their time at the latest.
func ending(chains [][]*x509.Certificate) string {
	var of *x509.Certificate
	for _, chain := range chains {
		first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if of == nil || first.NotAfter.After(of.NotAfter) {
			of = first
		}
	}
	const day = 24 * time.Hour
	name, soon := "its certificate", 30*day
	if of.IsCA {
		name = fmt.Sprintf("the certificate of its CA %q", of.Subject)
	}
	if lifetime := of.NotAfter.Sub(of.NotBefore); lifetime < 7*day {
		soon = lifetime / 3
	}
	if time.Until(of.NotAfter) > soon {
		return ""
	}
	return name + " ends at " + timeText(of.NotAfter)
}

// otherTransport finds instances that do not speak the transport of the flags. If none of the service does, the flags may be wrong.
func (x *subject) otherTransport() {
	by := make(map[string][]string) // keys by transport
	for _, i := range x.clients.Instances {
		speaks := x.health[serviceAddr{x.Key, i.Addr}].speaks
		by[speaks] = append(by[speaks], i.Entry.Key)
	}
	asked, other, flags := speaksTLS, speaksPlaintext, " --deep --plaintext"
	if x.plaintext {
		asked, other, flags = other, asked, " --deep"
	}
	who := output.CountedIs(len(by[other]), "instance", "speaks", "speak") + " " + other
	switch rest := len(by[asked]); {
	case len(by[other]) == 0:
	case rest > 0:
		x.report(KindTransport, fmt.Sprintf("%s, and %d %s: every client fails at some of them", who, rest, asked), "give all servers of the service the transport of its clients", by[other]...)
	default:
		x.report(KindTransport, fmt.Sprintf("%s, and none %s, so clients that use %[2]s fail", who, asked),
			"if its clients use "+other+" too: "+x.Command("doctor"+flags)+"; else give its servers "+asked, by[other]...)
		x.findings[len(x.findings)-1].Severity = Warning
	}
}
