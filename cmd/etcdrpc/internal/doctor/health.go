package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// connectAll connects to each address, and returns the error of each address that failed.
func (d *Options) connectAll(ctx context.Context, dial transport.DialFunc, addresses []string) map[string]error {
	failed, mu := make(map[string]error), new(sync.Mutex)
	forEach(len(addresses), func(n int) {
		ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
		defer cancel()
		conn, err := dial(ctx, "tcp", addresses[n])
		if err == nil {
			conn.Close()
			return
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within --probe-timeout %v", d.probeTimeout)
		}
		mu.Lock()
		defer mu.Unlock()
		failed[addresses[n]] = err
	})
	return failed
}

// maxConns bounds concurrent connections.
const maxConns = 256

// forEach calls do for 0 to n-1, maxConns at a time, and waits for all of them.
func forEach(n int, do func(int)) {
	var running errgroup.Group
	running.SetLimit(maxConns)
	for i := range n {
		running.Go(func() error { do(i); return nil })
	}
	_ = running.Wait()
}

// serviceAddr is the address of an instance of a service.
type serviceAddr struct{ key, addr string }

// healthResult is the result of an instance's health check.
type healthResult struct {
	kind     string // of the fault; "" if the check finds no fault
	severity Severity
	problem  string
	speaks   string   // TLS or plaintext; "" if unknown
	unknown  []string // published services that the health service does not know
}

// checkHealth checks the health of the instances that accept connections, as a gRPC client does.
func (p *examination) checkHealth(ctx context.Context, dial transport.DialFunc) {
	p.health = make(map[serviceAddr]healthResult)
	for _, s := range p.services {
		if endpoint.CheckKey(s.Key) != nil {
			continue // clients refuse the key
		}
		all := slices.DeleteFunc(s.Merged().Instances, func(i inventory.Instance) bool { return p.dialErrors[i.Addr] != nil || i.Drained })
		answers, ways, asked := make([]healthResult, len(all)), p.waysTo(s.Key, dial), ""
		if live, err := s.Live(); err == nil && live != nil && live.HealthCheck != nil {
			asked = live.HealthCheck.ServiceName
		}
		forEach(len(all), func(n int) { answers[n] = p.checkInstance(ctx, ways, &all[n], asked) })
		for n, a := range answers {
			p.health[serviceAddr{s.Key, all[n].Addr}] = a
		}
	}
}

// checkInstance checks the health of an instance's server over the first way that the server speaks.
func (d *Options) checkInstance(ctx context.Context, ways []way, i *inventory.Instance, asked string) (first healthResult) {
	ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
	defer cancel()
	for n, w := range ways {
		a := d.checkOver(ctx, w, i, asked)
		if n > 0 && a.kind == kindCertificate { // clients use no TLS
			a = healthResult{speaks: a.speaks}
		}
		if n == 0 || a.speaks != "" {
			first = a
		}
		if a.speaks != "" {
			break
		}
	}
	return first
}

// checkOver checks the health of an instance's server, of each service that its entry publishes, and of the service that the live
// policy asks for, if any.
func (d *Options) checkOver(ctx context.Context, w way, i *inventory.Instance, asked string) (a healthResult) {
	if w.err != nil {
		return healthResult{kind: kindNotServing, problem: w.err.Error()}
	}
	watched := &watchedCredentials{TransportCredentials: w.credentials}
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, append(slices.Clip(w.options), grpc.WithTransportCredentials(watched))...)
	if err != nil {
		return healthResult{kind: kindNotServing, problem: err.Error()}
	}
	defer conn.Close()
	a = d.ask(ctx, conn, i, asked)
	watched.addTo(&a)
	return a
}

// ask asks for the health of a server.
func (d *Options) ask(ctx context.Context, conn *grpc.ClientConn, i *inventory.Instance, asked string) (a healthResult) {
	found := func(kind, format string, args ...any) healthResult {
		a.kind, a.problem = kind, fmt.Sprintf(format, args...)
		return a
	}
	for _, service := range slices.Compact(append([]string{"", asked}, servicesOf(i)...)) {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		code, text := status.Code(err), status.Convert(err).Message()
		if code != codes.Unavailable && code != codes.DeadlineExceeded {
			a.speaks = speaksPlaintext // unless there was a handshake
		}
		switch {
		case code == codes.OK && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
			return found(kindNotServing, "its health check reports %v for %q", resp.GetStatus(), service)
		case code == codes.DeadlineExceeded:
			return found(kindNotServing, "it did not answer gRPC's health check within %v", d.probeTimeout)
		case code == codes.NotFound && service != "" && service == asked:
			return found(kindNotServing, "its health service does not know %q, for which the live policy has clients ask, so they do not call it", service)
		case code == codes.NotFound && service != "" && isUnknownService(ctx, conn, service):
			return found(kindWrongService, "it does not serve %q, which its entry publishes: another server may be there now", service)
		case code == codes.NotFound && service != "":
			a.unknown = append(a.unknown, service)
		case code == codes.OK, code == codes.NotFound, code == codes.Unauthenticated, code == codes.PermissionDenied: // the server is healthy
		case code == codes.Unimplemented && !strings.Contains(text, "HTTP status"), strings.Contains(text, "certificate required"), strings.Contains(text, "broken pipe"):
			return a // the server has no health service, or wants a client certificate and may close the connection early
		default:
			return found(kindNotServing, "%s", text)
		}
	}
	return a
}

// ofHealth returns the finder for the results of the check's kind. It reports a finding for each problem, by the address of the first instance.
func ofHealth(fix string) finders {
	return finders{func(x *subject) {
		for _, i := range x.clients.Instances {
			if a := x.health[serviceAddr{x.Key, i.Addr}]; a.kind == x.check.kind {
				x.reportGrouped(x.Key+" "+a.problem, Finding{Severity: a.severity, Problem: i.Addr + ": " + a.problem, Fix: fix}, i.Entry.Key)
			}
		}
	}}
}

// unknownHealth notes published services that the health service does not know. gRPC's health server knows no service by default,
// and only clients whose proto has health_check need the status.
func (x *subject) unknownHealth() {
	for _, i := range x.clients.Instances {
		for _, service := range x.health[serviceAddr{x.Key, i.Addr}].unknown {
			if x.live == nil || x.live.HealthCheck == nil {
				x.reportGrouped(x.Key+" "+service, Finding{
					Problem: fmt.Sprintf("the health service does not know %q, so clients whose proto has health_check do not call the instance", service),
					Fix:     fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", service),
				}, i.Entry.Key)
			}
		}
	}
}

// isUnknownService reports whether a server does not have a service, by the error text of grpc-go.
func isUnknownService(ctx context.Context, conn *grpc.ClientConn, service string) bool {
	err := conn.Invoke(ctx, "/"+service+"/EtcdrpcDoctorAsksWhoServesThis", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	return status.Code(err) == codes.Unimplemented && status.Convert(err).Message() == "unknown service "+service
}

// servicesOf returns the gRPC services that an instance publishes.
func servicesOf(i *inventory.Instance) (names []string) {
	for method := range inventory.DeclaredMethods(&i.Endpoint) {
		if name := method.Service; name != "" && !inventory.IsInfrastructure(name) {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

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
		a.kind, a.problem = kindCertificate, refused.Error()
		w.last.Store(a)
	} else if of, ok := info.(credentials.TLSInfo); ok {
		if cert := of.State.PeerCertificates[0]; endsSoon(cert) {
			a.kind, a.severity, a.problem = kindCertificate, Warning, "its certificate ends at "+cert.NotAfter.UTC().Format(time.RFC3339)
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

// otherTransport finds instances that do not speak the transport of the flags. If none of the service does, its clients probably do not either.
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
	severity, fix := Error, "give all servers of the service the transport of its clients"
	if len(by[asked]) == 0 {
		severity, fix = Note, "if its clients use "+other+": "+x.Command("doctor"+flags)+"; else give its servers "+asked
	}
	for _, key := range by[other] {
		x.reportGrouped(x.Key, Finding{Severity: severity, Problem: problem, Fix: fix}, key)
	}
}
