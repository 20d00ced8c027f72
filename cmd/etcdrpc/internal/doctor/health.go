package doctor

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/tlsfiles"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// connectAll connects to each address, and returns the error of each address that failed.
func (d *Options) connectAll(ctx context.Context, dial transport.DialFunc, addresses []string) map[string]error {
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
	kind    Kind // of the fault; "" if the check finds no fault
	problem string
	unknown []string // published services that the health service does not know
}

// checkHealth checks the health of the instances that accept connections, as a gRPC client does.
func (p *examination) checkHealth(ctx context.Context, dial transport.DialFunc) {
	p.health = make(map[serviceAddr]healthResult)
	for _, s := range p.services {
		if endpoint.CheckKey(s.Key) != nil {
			continue // clients refuse the key
		}
		all := slices.DeleteFunc(s.Merged().Instances, func(i inventory.Instance) bool {
			return p.dialErrors[i.Addr] != nil || p.isMisleading(i.Addr) || i.Drained
		})
		connect := transport.Transport{Plaintext: p.plaintext, Authority: p.authorities[s.Key], Files: tlsfiles.Files{CA: p.caFile}}
		options, err := connect.Options(s.Key, dial)
		answers := make([]healthResult, len(all))
		forEach(len(all), func(n int) {
			if answers[n] = (healthResult{kind: KindNotServing, problem: fmt.Sprint(err)}); err == nil {
				answers[n] = p.checkInstance(ctx, options, &all[n])
			}
		})
		for n, a := range answers {
			p.health[serviceAddr{s.Key, all[n].Addr}] = a
		}
	}
}

// checkInstance checks the health of an instance's server, and of each service that its entry publishes.
func (d *Options) checkInstance(ctx context.Context, options []grpc.DialOption, i *inventory.Instance) (a healthResult) {
	ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, options...)
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
		case code == codes.Unimplemented && !strings.Contains(text, "HTTP status"), strings.Contains(text, "certificate required"), strings.Contains(text, "broken pipe"):
			return a // the server has no health service, or wants a client certificate and may close the connection early
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

// unknownHealth notes published services that the health service does not know. gRPC's health server knows no service by default,
// and only clients whose proto has health_check need the status.
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
	x.report(KindHealthUnknown, fmt.Sprintf("the health service of %s does not know %q, so clients whose proto has health_check call none of these", output.Counted(len(where), "instance"), services),
		fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", services[0]), where...)
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
