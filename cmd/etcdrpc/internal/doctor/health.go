package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// connectAll connects to each address, and returns the errors of those that failed, by address.
func (d *Options) connectAll(ctx context.Context, dial dialing.Func, addresses []string) map[string]error {
	errs := make([]error, len(addresses))
	forEach(len(addresses), func(n int) {
		ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
		defer cancel()
		var conn net.Conn
		if conn, errs[n] = dial(ctx, "tcp", addresses[n]); errs[n] == nil {
			conn.Close()
		}
	})
	failed := make(map[string]error)
	for n, err := range errs {
		if err != nil {
			failed[addresses[n]] = err
		}
	}
	return failed
}

// forEach calls do for 0 to n-1, [dialing.MaxConns] at a time, and waits for all of them.
func forEach(n int, do func(int)) {
	var running errgroup.Group
	running.SetLimit(dialing.MaxConns)
	for i := range n {
		running.Go(func() error { do(i); return nil })
	}
	_ = running.Wait()
}

// serviceAddr is the address of an instance of a service.
type serviceAddr struct{ key, addr string }

// healthResult is the result of an instance's health check.
type healthResult struct {
	kind    Kind // of the fault; "": none
	problem string
	unknown []string // published services that the health service does not know
}

// checkHealth checks the health of the instances that accept connections, as a gRPC client does.
func (p *examination) checkHealth(ctx context.Context, dial dialing.Func) {
	p.health = make(map[serviceAddr]healthResult)
	for _, s := range p.services {
		all := slices.DeleteFunc(s.Merged().Instances, func(i inventory.Instance) bool {
			return p.dialErrors[i.Addr] != nil || p.isMisleading(i.Addr) || i.Drained
		})
		answers := make([]healthResult, len(all))
		forEach(len(all), func(n int) { answers[n] = p.checkInstance(ctx, dial, s.Key, &all[n]) })
		for n, a := range answers {
			p.health[serviceAddr{s.Key, all[n].Addr}] = a
		}
	}
}

// checkInstance checks the health of an instance's server, and of each service that its entry publishes.
func (d *Options) checkInstance(ctx context.Context, dial dialing.Func, key string, i *inventory.Instance) (a healthResult) {
	ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
	defer cancel()
	creds := insecure.NewCredentials()
	if !d.plaintext {
		creds = credentials.NewTLS(&tls.Config{RootCAs: d.roots, ServerName: servicekey.TLSName(key, d.authorities[key]), MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, grpc.WithTransportCredentials(creds), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("etcdrpc"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return healthResult{kind: KindNotServing, problem: err.Error()}
	}
	defer conn.Close()
	for _, service := range append([]string{""}, servicesOf(i)...) {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		code, text := status.Code(err), status.Convert(err).Message()
		switch {
		case code == codes.OK && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
			return healthResult{kind: KindNotServing, problem: fmt.Sprintf("its health check reports %v for %q", resp.GetStatus(), service)}
		case code == codes.DeadlineExceeded:
			return healthResult{kind: KindNotServing, problem: fmt.Sprintf("it did not answer gRPC's health check within %v", d.probeTimeout)}
		case code == codes.NotFound && service != "" && isUnknownService(ctx, conn, service):
			return healthResult{kind: KindWrongService, problem: fmt.Sprintf("it does not serve %q, which its entry publishes: another server may be there now", service)}
		case code == codes.NotFound && service != "":
			a.unknown = append(a.unknown, service)
		case code == codes.OK, code == codes.NotFound, code == codes.Unauthenticated, code == codes.PermissionDenied: // the server is healthy
		case code == codes.Unimplemented && !strings.Contains(text, "HTTP status"), strings.Contains(text, "certificate required"):
			return a // it has no health service, or wants a client certificate
		default:
			return healthResult{kind: KindNotServing, problem: text}
		}
	}
	return a
}

// notServing finds instances that are not healthy.
func (x *subject) notServing() { x.reportHealth(KindNotServing) }

// wrongService finds instances that serve another service.
func (x *subject) wrongService() { x.reportHealth(KindWrongService) }

func (x *subject) reportHealth(kind Kind) {
	for _, i := range x.clients.Instances {
		if a := x.health[serviceAddr{x.Key, i.Addr}]; a.kind == kind {
			x.report(kind, i.Addr+": "+a.problem, "look at its server's log, at the address that it advertises (GRPC_ADVERTISE_ADDR), and at its certificate; "+
				"--plaintext, --service-cacert and --service-authority say how clients call it", i.Entry.Key)
		}
	}
}

// unknownHealth notes published services that the health service does not know, which is gRPC's default. This is a fault only if
// the proto has health_check.
func (x *subject) unknownHealth() {
	if x.live != nil && x.live.HealthCheck != nil {
		return
	}
	var services, where []string
	for _, i := range x.clients.Instances {
		if unknown := x.health[serviceAddr{x.Key, i.Addr}].unknown; len(unknown) > 0 {
			services, where = append(services, unknown...), append(where, i.Entry.Key)
		}
	}
	if len(where) == 0 {
		return
	}
	slices.Sort(services)
	services = slices.Compact(services)
	x.report(KindHealthUnknown, fmt.Sprintf("the health service of %s does not know %s, so clients whose proto has health_check call none of these", output.Counted(len(where), "instance"), output.Quoted(services)),
		fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", services[0]), output.FirstOf(where)...)
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
