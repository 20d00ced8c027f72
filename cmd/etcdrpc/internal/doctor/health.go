package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// connectAll connects to each address, and returns why it could not to those that did not answer in time.
func (d *Options) connectAll(ctx context.Context, dial dialing.Func, addresses []string) map[string]error {
	errs := make([]error, len(addresses))
	parallel.Each(len(addresses), dialing.Most, func(n int) {
		ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
		defer cancel()
		var conn net.Conn
		if conn, errs[n] = dial(ctx, "tcp", addresses[n]); errs[n] == nil {
			conn.Close()
		}
	})
	dead := make(map[string]error)
	for n, err := range errs {
		if err != nil {
			dead[addresses[n]] = err
		}
	}
	return dead
}

// spot is an instance of a service.
type spot struct{ key, addr string }

// answer is what an instance answers who asks for its health.
type answer struct {
	kind    Kind // of what is wrong; "": nothing
	problem string
	unknown []string // the services that it publishes, and its health service does not know
}

// askAll asks the instances that accept connections for their health, as a gRPC client does.
func (p *patient) askAll(ctx context.Context, dial dialing.Func) {
	p.health = make(map[spot]answer)
	for _, s := range p.services {
		all := slices.DeleteFunc(s.Merged().Instances, func(i survey.Instance) bool {
			return p.dead[i.Addr] != nil || p.isMisleading(i.Addr) || i.Drained
		})
		answers := make([]answer, len(all))
		parallel.Each(len(all), dialing.Most, func(n int) { answers[n] = p.ask(ctx, dial, s.Key, &all[n]) })
		for n, a := range answers {
			p.health[spot{s.Key, all[n].Addr}] = a
		}
	}
}

// ask asks an instance for the health of the server and of what its entry publishes.
func (d *Options) ask(ctx context.Context, dial dialing.Func, key string, i *survey.Instance) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, d.probeTimeout)
	defer cancel()
	creds := insecure.NewCredentials()
	if !d.plaintext {
		creds = credentials.NewTLS(&tls.Config{RootCAs: d.roots, ServerName: servicekey.TLSName(key, d.authorities[key]), MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, grpc.WithTransportCredentials(creds), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("etcdrpc"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return answer{kind: KindNotServing, problem: err.Error()}
	}
	defer conn.Close()
	for _, service := range append([]string{""}, servicesOf(i)...) {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		code, text := status.Code(err), status.Convert(err).Message()
		switch {
		case code == codes.OK && resp.GetStatus() == healthpb.HealthCheckResponse_NOT_SERVING:
			return answer{kind: KindNotServing, problem: fmt.Sprintf("it says that it is not serving: %q", service)}
		case code == codes.DeadlineExceeded:
			return answer{kind: KindNotServing, problem: fmt.Sprintf("it did not answer gRPC's health check within %v", d.probeTimeout)}
		case code == codes.NotFound && service != "" && lacks(ctx, conn, service):
			return answer{kind: KindWrongService, problem: fmt.Sprintf("it knows no %q, which its entry publishes: another server may be there now", service)}
		case code == codes.NotFound && service != "":
			a.unknown = append(a.unknown, service)
		case code == codes.OK, code == codes.NotFound, code == codes.Unauthenticated, code == codes.PermissionDenied: // it is well all the same
		case code == codes.Unimplemented && !strings.Contains(text, "HTTP status"), strings.Contains(text, "certificate required"):
			return a // there is nobody to ask, or not for us
		default:
			return answer{kind: KindNotServing, problem: text}
		}
	}
	return a
}

// notServing finds the instances that are ill.
func (x *subject) notServing() { x.reportHealth(KindNotServing) }

// wrongService finds the instances of another service.
func (x *subject) wrongService() { x.reportHealth(KindWrongService) }

func (x *subject) reportHealth(kind Kind) {
	for _, i := range x.clients.Instances {
		if a := x.health[spot{x.Key, i.Addr}]; a.kind == kind {
			x.report(kind, i.Addr+": "+a.problem, "look at its server's log, at the address that it advertises (GRPC_ADVERTISE_ADDR), and at its certificate; "+
				"--plaintext, --service-cacert and --service-authority say how clients call it", i.Entry.Key)
		}
	}
}

// unknownHealth notes the services that instances publish and their health service does not know, as gRPC's own does not until it
// is told. Whether clients ask for them, their protos say, so it is no fault.
func (x *subject) unknownHealth() {
	if x.live != nil && x.live.HealthCheck != nil {
		return
	}
	var services, where []string
	for _, i := range x.clients.Instances {
		if unknown := x.health[spot{x.Key, i.Addr}].unknown; len(unknown) > 0 {
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

// lacks reports whether a server has no method of a service, as gRPC for Go says it.
func lacks(ctx context.Context, conn *grpc.ClientConn, service string) bool {
	err := conn.Invoke(ctx, "/"+service+"/EtcdrpcDoctorAsksWhoServesThis", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	return status.Code(err) == codes.Unimplemented && status.Convert(err).Message() == "unknown service "+service
}

// servicesOf returns the gRPC services that an instance publishes.
func servicesOf(i *survey.Instance) (names []string) {
	for method := range survey.DeclaredMethods(&i.Endpoint) {
		if name := method.Service; name != "" && !survey.IsInfrastructure(name) {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}
