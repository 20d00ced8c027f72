package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
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
	a := &healthResult{speaks: speaksTLS}
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		a.kind, a.problem = KindCertificate, refused.Error()
		w.last.Store(a)
	} else if of, ok := info.(credentials.TLSInfo); ok {
		if cert := of.State.PeerCertificates[0]; endsSoon(cert) {
			a.kind, a.severity, a.problem = KindCertificate, Warning, "its certificate ends at "+cert.NotAfter.UTC().Format(time.RFC3339)
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

// endsSoon reports whether a certificate ends within 30 days. Certificates of less than a week are renewed by programs, after two
// thirds of their time at the latest.
func endsSoon(cert *x509.Certificate) bool {
	const day = 24 * time.Hour
	lifetime, left := cert.NotAfter.Sub(cert.NotBefore), time.Until(cert.NotAfter)
	return left < 30*day && (lifetime > 7*day || left < lifetime/3)
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
	if len(by[other]) == 0 {
		return
	}
	problem := fmt.Sprintf("%s %s, and %d %s: clients that use %[4]s fail there", output.CountedIs(len(by[other]), "instance", "speaks", "speak"), other, len(by[asked]), asked)
	if len(by[asked]) > 0 {
		x.report(KindTransport, problem, "give all servers of the service the transport of its clients", by[other]...)
		return
	}
	fix := "if its clients use " + other + ": " + x.Command("doctor"+flags) + "; else give its servers " + asked
	for _, key := range by[other] {
		x.reportOnce(x.Key+" transport", KindTransport, Warning, problem, fix, key)
	}
}
