package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
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

// askAll asks the instances that accept connections for their health, as a gRPC client does, and tells of what they answer.
func (p *patient) askAll(ctx context.Context, dial dialing.Func) {
	for _, s := range p.services {
		x := p.subject(s)
		all := slices.DeleteFunc(slices.Clone(x.clients.Instances), func(i survey.Instance) bool {
			return p.dead[i.Addr] != nil || p.isMisleading(i.Addr) || i.Drained
		})
		found := make([]func(), len(all))
		parallel.Each(len(all), dialing.Most, func(n int) { found[n] = x.ask(ctx, dial, &all[n]) })
		for _, tell := range found {
			tell()
		}
		x.checkHealthKnown()
	}
}

// checkHealthKnown notes the services that instances publish and their health service does not know, as gRPC's own does not until it
// is told. Whether clients ask for them, their protos say, so it is no fault.
func (x *subject) checkHealthKnown() {
	if len(x.unknown) == 0 || x.live != nil && x.live.HealthCheck != nil {
		return
	}
	var where []string
	for _, keys := range x.unknown {
		where = append(where, keys...)
	}
	slices.Sort(where)
	where = slices.Compact(where)
	services := slices.Sorted(maps.Keys(x.unknown))
	x.report(KindHealthUnknown, fmt.Sprintf("the health service of %s does not know %s, so clients whose proto has health_check call none of these", output.Counted(len(where), "instance"), output.Quoted(services)),
		fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", services[0]), output.FirstOf(where)...)
}

// ask asks an instance for the health of the server and of what its entry publishes, and returns what tells of the answer.
func (x *subject) ask(ctx context.Context, dial dialing.Func, i *survey.Instance) (tell func()) {
	ctx, cancel := context.WithTimeout(ctx, x.probeTimeout)
	defer cancel()
	authority := servicekey.TLSName(x.Key, x.authorities[x.Key])
	creds := insecure.NewCredentials()
	if !x.plaintext {
		creds = credentials.NewTLS(&tls.Config{RootCAs: x.roots, ServerName: authority, MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, grpc.WithTransportCredentials(creds), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("etcdrpc"),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return func() { x.reportHealth(i, KindNotServing, err.Error()) }
	}
	defer conn.Close()
	var unknown []string
	for _, service := range append([]string{""}, servicesOf(i)...) {
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		code, text := status.Code(err), status.Convert(err).Message()
		problem, kind := "", KindNotServing
		switch {
		case code == codes.OK && resp.GetStatus() == healthpb.HealthCheckResponse_NOT_SERVING:
			problem = fmt.Sprintf("it says that it is not serving: %q", service)
		case code == codes.DeadlineExceeded:
			problem = fmt.Sprintf("it did not answer gRPC's health check within %v", x.probeTimeout)
		case code == codes.NotFound && service != "" && lacks(ctx, conn, service):
			problem, kind = fmt.Sprintf("it knows no %q, which its entry publishes: another server may be there now", service), KindWrongService
		case code == codes.NotFound && service != "":
			unknown = append(unknown, service)
		case code == codes.OK, code == codes.NotFound, code == codes.Unauthenticated, code == codes.PermissionDenied: // it is well all the same
		case code == codes.Unimplemented && !strings.Contains(text, "HTTP status"), strings.Contains(text, "certificate required"):
			return func() {}
		default:
			problem = text
		}
		if problem != "" {
			return func() { x.reportHealth(i, kind, problem) }
		}
	}
	return func() {
		for _, service := range unknown {
			x.unknown[service] = append(x.unknown[service], i.Entry.Key)
		}
	}
}

// lacks reports whether a server has no method of a service, as gRPC for Go says it.
func lacks(ctx context.Context, conn *grpc.ClientConn, service string) bool {
	err := conn.Invoke(ctx, "/"+service+"/EtcdrpcDoctorAsksWhoServesThis", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	return status.Code(err) == codes.Unimplemented && status.Convert(err).Message() == "unknown service "+service
}

func (x *subject) reportHealth(i *survey.Instance, kind Kind, problem string) {
	x.report(kind, i.Addr+": "+problem, "look at its server's log, at the address that it advertises (GRPC_ADVERTISE_ADDR), and at its certificate; "+
		"--plaintext, --service-cacert and --service-authority say how clients call it", i.Entry.Key)
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
