package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
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
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// connectAll connects to each address, and returns the error of each address
// that failed.
func (d *Options) connectAll(
	ctx context.Context,
	dial transport.DialFunc,
	addresses []string,
) map[string]error {
	failed := make(map[string]error)
	var mu sync.Mutex // guards failed

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

// maxConns bounds concurrent connections. A process may have only 256 files
// open, and the lookup of a name opens two.
const maxConns = 100

// forEach calls do for 0 to n-1, maxConns at a time, and waits for all of them.
func forEach(n int, do func(int)) {
	var running errgroup.Group
	running.SetLimit(maxConns)

	for i := range n {
		running.Go(func() error {
			do(i)
			return nil
		})
	}

	_ = running.Wait()
}

// serviceAddr is the address of an instance of a service.
type serviceAddr struct{ key, addr string }

// healthTarget is an instance to check.
type healthTarget struct {
	*inventory.Instance
	probes  []probe
	service string // the service whose health the live config lets clients check; may be ""
}

// healthResult is the result of an instance's health check.
type healthResult struct {
	kind      string // of the finding; "" if there is none
	severity  Severity
	problem   string
	transport string   // "" if unknown
	unknown   []string // published services that the health service does not know
}

// failed reports whether the check found that clients cannot call the instance.
func (r healthResult) failed() bool {
	return r.kind != "" && r.severity == ""
}

// checkHealth checks the health of the instances that accept connections, as a
// gRPC client does. After a failure it waits: a server that stops fails the
// check before its entry is deleted, and dropGone should find the entry
// deleted.
func (p *examination) checkHealth(ctx context.Context, dial transport.DialFunc) {
	var targets []healthTarget
	for _, s := range p.services {
		if endpoint.CheckKey(s.Key) != nil {
			continue // clients refuse the key
		}

		probes := p.probes(s.Key, dial)
		service := ""
		instances := s.Merged().Instances

		if live, err := s.Live(); err == nil && live != nil && live.HealthCheck != nil {
			service = live.HealthCheck.ServiceName
		}

		for n := range instances {
			i := &instances[n]
			if p.dialErrors[i.Addr] == nil && i.Drain == nil {
				targets = append(targets, healthTarget{i, probes, service})
			}
		}
	}

	results := make([]healthResult, len(targets))
	forEach(len(targets), func(n int) { results[n] = p.checkInstance(ctx, targets[n]) })

	p.health = make(map[serviceAddr]healthResult)
	for n, t := range targets {
		p.health[serviceAddr{t.Service, t.Addr}] = results[n]
	}

	if slices.ContainsFunc(results, healthResult.failed) {
		store.Pause(ctx, recheckDelay)
	}
}

// checkInstance checks the health of an instance's server over the first
// transport that the server speaks.
func (d *Options) checkInstance(
	ctx context.Context,
	t healthTarget,
) (first healthResult) {
	ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
	defer cancel()

	for n, p := range t.probes {
		result := d.checkOver(ctx, p, t)
		if n == 0 || result.transport != "" {
			first = result
		}

		if first.transport != "" {
			break
		}
	}

	if d.plaintext && first.kind == kindCertificate { // clients use no TLS
		first = healthResult{transport: first.transport}
	}

	return first
}

// checkOver checks a TLS handshake, if there is one, and the health of an
// instance's server.
func (d *Options) checkOver(ctx context.Context, p probe, t healthTarget) healthResult {
	if p.err != nil {
		return healthResult{kind: kindNotServing, problem: p.err.Error()}
	}

	p.wantsCertificate = new(atomic.Bool)
	creds := &handshakeRecorder{TransportCredentials: p.credentials}

	if p.config != nil && d.files.Cert == "" {
		config := p.config.Clone()
		config.GetClientCertificate =
			func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				p.wantsCertificate.Store(true)
				return new(tls.Certificate), nil
			}

		creds.TransportCredentials = credentials.NewTLS(config)
	}

	conn, err := grpc.NewClient("passthrough:///"+t.Addr,
		append(slices.Clip(p.options), grpc.WithTransportCredentials(creds))...)
	if err != nil {
		return healthResult{kind: kindNotServing, problem: err.Error()}
	}
	defer conn.Close()

	result := d.checkServices(ctx, conn, p, t)
	if handshake := creds.last.Load(); handshake != nil {
		result.transport = cmp.Or(result.transport, p.transport)

		if handshake.kind != "" && (result.kind == "" || handshake.severity == "") {
			result.kind = handshake.kind
			result.problem = handshake.problem
			result.severity = handshake.severity
		}
	}

	return result
}

// checkServices checks the health of a server, of each service that its entry
// publishes, and of the target's service.
func (d *Options) checkServices(
	ctx context.Context,
	conn *grpc.ClientConn,
	p probe,
	t healthTarget,
) (result healthResult) {
	fault := func(format string, args ...any) healthResult {
		result.kind = kindNotServing
		result.problem = fmt.Sprintf(format, args...)

		return result
	}

	services := []string{"", t.service}
	for method := range inventory.DeclaredMethods(&t.Instance.Endpoint) {
		if method.Service != "" && !inventory.IsInfrastructure(method.Service) {
			services = append(services, method.Service)
		}
	}

	for _, service := range slices.Compact(services) {
		health, isGRPC, err := transport.CheckHealth(ctx, conn, service)
		code := status.Code(err)
		text := status.Convert(err).Message()

		if code != codes.Unavailable && code != codes.DeadlineExceeded {
			result.transport = p.transport
		}

		switch {
		case code == codes.OK && health != healthpb.HealthCheckResponse_SERVING:
			return fault("its health check reports %v for %q", health, service)
		case code == codes.DeadlineExceeded:
			return fault("it did not answer gRPC's health check within %v",
				d.probeTimeout)
		case code == codes.NotFound && service != "" && service == t.service:
			return fault("its health service does not know %q, for which the live config has clients ask, so they do not call it", service)
		case code == codes.NotFound && service != "":
			result.unknown = append(result.unknown, service)
		case code == codes.OK, code == codes.NotFound, code == codes.Unauthenticated,
			code == codes.PermissionDenied: // the server is healthy
		case code == codes.Unimplemented && isGRPC:
			return result // the server has no health service

		case code == codes.Unavailable && p.wantsCertificate.Load():
			// The text of the alert depends on the version of TLS.
			result.transport = speaksMutualTLS
			return result

		default:
			return fault("%s", text)
		}
	}

	return result
}

// ofHealth returns the find function of a check. The function reports the
// results of health checks that have the check's kind. Instances of a service
// with the same problem share a finding.
func ofHealth(fix string) func(x *subject) {
	return func(x *subject) {
		for _, i := range x.clients.Instances {
			a := x.health[serviceAddr{x.Key, i.Addr}]
			if a.kind == x.check.kind {
				x.add(x.Key+" "+a.problem, a.kind, cmp.Or(a.severity, x.check.severity),
					a.problem, fix, i.Entry.Key)
			}
		}
	}
}

// unknownHealth notes published services that the health service does not know.
// gRPC's health server knows no service by default, and only clients whose
// proto has health_check need the status.
func (x *subject) unknownHealth() {
	if x.live != nil && x.live.HealthCheck != nil {
		return
	}

	for _, i := range x.clients.Instances {
		for _, service := range x.health[serviceAddr{x.Key, i.Addr}].unknown {
			x.report(
				fmt.Sprintf("the health service does not know %q, so clients whose proto has health_check do not call the instance", service),
				fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", service),
				i.Entry.Key)
		}
	}
}

// The transports of servers.
const (
	speaksTLS       = "TLS"
	speaksMutualTLS = "mutual TLS"
	speaksPlaintext = "plaintext"
)

// probe is a transport to the instances of a service.
type probe struct {
	transport   string
	options     []grpc.DialOption
	credentials credentials.TransportCredentials
	config      *tls.Config // nil for plaintext
	err         error       // why the transport cannot be used

	// whether the instance under check asks for a client certificate; checkOver
	// sets it
	wantsCertificate *atomic.Bool
}

// probes returns the transport that the flags select, and then the other of TLS
// and plaintext.
func (d *Options) probes(key string, dial transport.DialFunc) []probe {
	secure := probe{transport: speaksTLS}
	plain := probe{transport: speaksPlaintext}
	t := transport.Transport{Authority: d.authorities[key], Files: d.files}

	secure.options, secure.credentials, secure.err = t.Split(key, dial)
	if secure.err == nil {
		secure.config, secure.err = t.Files.Config()
	}

	t.Plaintext = true
	t.Files = transport.Files{}
	plain.options, plain.credentials, plain.err = t.Split(key, dial)

	if d.plaintext {
		return []probe{plain, secure}
	}

	return []probe{secure, plain}
}

// handshakeRecorder keeps the result of the last TLS handshake.
type handshakeRecorder struct {
	credentials.TransportCredentials
	last atomic.Pointer[healthResult]
}

// ClientHandshake implements [credentials.TransportCredentials].
func (h *handshakeRecorder) ClientHandshake(
	ctx context.Context,
	authority string,
	raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		result := &healthResult{kind: kindCertificate, problem: refused.Error()}
		invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
		if ok && invalid.Reason == x509.Expired { // its text has the current time
			result.problem = fmt.Sprintf("its certificate is valid only from %s to %s",
				invalid.Cert.NotBefore.Format(time.RFC3339),
				invalid.Cert.NotAfter.Format(time.RFC3339))
		}

		h.last.Store(result)
	} else if done, ok := info.(credentials.TLSInfo); ok {
		h.last.Store(checkChains(done.State.VerifiedChains))
	}

	return conn, info, err
}

// checkChains warns if the longest-lived chain of certificates ends within 30
// days or, if that is less, a third of a certificate's lifetime.
func checkChains(chains [][]*x509.Certificate) *healthResult {
	chain := slices.MaxFunc(chains, func(a, b []*x509.Certificate) int {
		return firstEnd(a).Compare(firstEnd(b))
	})
	endsSoon := func(c *x509.Certificate) bool {
		lifetime := c.NotAfter.Sub(c.NotBefore)
		return time.Until(c.NotAfter) < min(30*24*time.Hour, lifetime/3)
	}

	n := slices.IndexFunc(chain, endsSoon)
	if n < 0 {
		return new(healthResult)
	}

	end := chain[n].NotAfter.Format(time.RFC3339)

	return &healthResult{
		kind:     kindCertificate,
		severity: Warning,
		problem:  "its certificate chain ends at " + end,
	}
}

// firstEnd returns when the first certificate of a chain ends.
func firstEnd(chain []*x509.Certificate) time.Time {
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int {
		return a.NotAfter.Compare(b.NotAfter)
	}).NotAfter
}

// otherTransport finds instances that do not speak the transport that the flags
// select. If all instances speak the same other transport, it only adds a note:
// the clients probably use that transport, too.
func (x *subject) otherTransport() {
	keys := make(map[string][]string)
	known := 0
	wanted := speaksTLS

	for _, i := range x.clients.Instances {
		r := x.health[serviceAddr{x.Key, i.Addr}]
		refused := r.kind == kindCertificate && r.severity == ""

		if r.transport != "" && !refused {
			keys[r.transport] = append(keys[r.transport], i.Entry.Key)
			known++
		}
	}

	if x.plaintext {
		wanted = speaksPlaintext
	}

	for _, t := range []struct{ name, flags string }{
		{speaksTLS, ""},
		{speaksMutualTLS, " --service-cert=FILE --service-key=FILE"},
		{speaksPlaintext, " --plaintext"},
	} {
		if t.name == wanted || len(keys[t.name]) == 0 {
			continue
		}

		severity := Error
		fix := "give all servers of the service the transport of its clients"

		if len(keys[t.name]) == known {
			severity = Note
			fix = fmt.Sprintf("if its clients use %s, check it over that: %s; else give its servers %s",
				t.name, x.Command("doctor --deep"+t.flags), wanted)
		}

		problem := fmt.Sprintf("%d of %d instances speak %s: clients that use %s cannot call them",
			len(keys[t.name]), known, t.name, wanted)
		x.reportAs(severity, problem, fix, keys[t.name]...)
	}
}
