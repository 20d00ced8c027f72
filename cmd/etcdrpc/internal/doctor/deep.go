package doctor

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// listen speaks to the instances that accept connections.
func (p *patient) listen(ctx context.Context, speaker *speaker) {
	var partners []partner
	for _, s := range p.examined() {
		x := p.subject(s)
		for _, i := range x.clients.Instances {
			if p.dead[i.Addr] == nil && !p.isMisleading(i.Addr) {
				partners = append(partners, partner{spot{s.Key, i.Addr}, x.tlsName(), x.servicesAsked(&i)})
			}
		}
	}
	p.heard = speaker.speakAll(ctx, partners)
}

// tlsName returns the name by which TLS knows the servers of a service, "" if it is not known.
func (x *subject) tlsName() string { return servicekey.TLSName(x.Key, x.authorities[x.Key]) }

// servicesOf returns the gRPC services that an instance publishes.
func servicesOf(i *survey.Instance) (names []string) {
	for method := range survey.DeclaredMethods(&i.Endpoint) {
		if name := method.Service; name != "" && !survey.IsInfrastructure(name) {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

// servicesAsked returns the services whose health an instance is asked for: those that it publishes, the names that go-micro's
// callers have for them, and the one that the live policy has clients ask for.
func (x *subject) servicesAsked(i *survey.Instance) []string {
	names := append(servicesOf(i), x.micro[i.Addr]...)
	if asked := x.healthService(); asked != "" && !slices.Contains(names, asked) {
		names = append(names, asked)
	}
	return names
}

// checkSpeech finds what is wrong with what the instances of a service speak.
func (x *subject) checkSpeech() {
	var secure, plain []survey.Instance
	for _, i := range x.clients.Instances {
		heard, spoken := x.heard[spot{x.Key, i.Addr}]
		switch {
		case !spoken:
			continue
		case heard.tls:
			secure = append(secure, i)
			if heard.grpc || heard.wantsCert || heard.mute {
				x.checkCertificate(&i, heard.certs)
			}
		case heard.grpc:
			plain = append(plain, i)
		}
		switch {
		case heard.wantsCert:
		case heard.mute:
			x.report(KindNotServing, fmt.Sprintf("%s speaks HTTP/2, but did not answer gRPC's health check within %v", i.Addr, x.probeTimeout),
				"look at its server's log: it hangs, or has too much to do, or what its health check waits for does; --probe-timeout gives it more time", i.Entry.Key)
		case !heard.grpc:
			fix := "have its server advertise the port on which it serves gRPC (GRPC_ADVERTISE_ADDR)"
			if heard.tls && len(heard.certs) == 0 { // it may be the name that it refuses
				fix += fmt.Sprintf("; where the proto sets another authority: --service-authority %s=NAME", output.Shell(x.Key))
			}
			x.report(KindNotGRPC, i.Addr+" "+heard.what, fix, i.Entry.Key)
		case !x.drained[i.Addr]:
			x.checkHealth(&i, heard.health)
		}
	}
	x.checkTransport(secure, plain)
	x.checkHealthKnown()
}

// checkHealthKnown notes the services that a server has and its health service does not know. The clients' protos decide whether
// that matters, unless the live policy has a healthCheckConfig: see checkHealthService.
func (x *subject) checkHealthKnown() {
	var services, where []string
	for _, i := range x.clients.Instances {
		for _, service := range servicesOf(&i) {
			if a := x.heard[spot{x.Key, i.Addr}].health[service]; a.code == codes.NotFound && !a.unknown {
				services, where = append(services, service), append(where, i.Entry.Key)
			}
		}
	}
	if len(where) == 0 || x.live != nil && x.live.HealthCheck != nil {
		return
	}
	slices.Sort(services)
	services, where = slices.Compact(services), slices.Compact(where)
	x.report(KindHealthUnknown, fmt.Sprintf("the health service of %s does not know %s, so clients whose proto has health_check call none of these", output.Counted(len(where), "instance"), output.Quoted(services)),
		fmt.Sprintf("if the proto has health_check, have the server call healthServer.SetServingStatus(%q, healthpb.HealthCheckResponse_SERVING)", services[0]), output.FirstOf(where)...)
}

// checkHealth finds what is wrong with the health of an instance.
func (x *subject) checkHealth(i *survey.Instance, health map[string]answer) {
	published := servicesOf(i)
	var notServing, failing, unknown []string
	for _, service := range append([]string{""}, x.servicesAsked(i)...) {
		a := health[service]
		if a.notServing {
			notServing = append(notServing, service)
		}
		if a.failure != "" {
			failing = append(failing, service)
		}
		if a.unknown && slices.Contains(published, service) {
			unknown = append(unknown, service)
		}
	}
	if len(notServing) > 0 {
		x.report(KindNotServing, fmt.Sprintf("%s says that it is not serving: %s", i.Addr, healthNames(notServing)),
			"look at its server's log: it takes no part, or is about to stop. A server of this project withdraws its entry meanwhile", i.Entry.Key)
	}
	if len(failing) > 0 {
		x.report(KindNotServing, fmt.Sprintf("%s fails gRPC's health check with %s: %s", i.Addr, health[failing[0]].failure, healthNames(failing)),
			"look at its server's log and, where a proxy is at this address, at what that one reaches: other calls are likely to fail, too", i.Entry.Key)
	}
	if len(unknown) > 0 {
		x.report(KindWrongService, fmt.Sprintf("%s is that of another server now: it knows nothing of what its entry publishes: %s", i.Addr, output.Quoted(unknown)),
			"if the entry's own server is dead, the entry goes with its lease; if two servers say that they are here, have each advertise an address of its own (GRPC_ADVERTISE_ADDR)", i.Entry.Key)
	}
}

// healthNames lists services.
func healthNames(services []string) string {
	if services[0] == "" {
		return "the server as a whole"
	}
	return output.Quoted(services)
}

// checkTransport finds the instances without TLS where clients use it or, where that is not known, those that differ from
// most of their service.
func (x *subject) checkTransport(secure, plain []survey.Instance) {
	var odd []survey.Instance
	var speak string
	switch {
	case len(plain) == 0 || len(secure) == 0 && x.roots == nil:
		return
	case x.roots != nil:
		odd, speak = plain, "plaintext where clients use TLS (--service-cacert)"
	case len(plain) <= len(secure):
		odd, speak = plain, fmt.Sprintf("plaintext where %d of the service speak TLS, and clients do not speak both", len(secure))
	default:
		odd, speak = secure, fmt.Sprintf("TLS where %d of the service speak plaintext, and clients do not speak both", len(plain))
	}
	var where []string
	for _, i := range odd {
		where = append(where, i.Entry.Key)
	}
	slices.Sort(where)
	problem := odd[0].Addr + " speaks " + speak
	if more := len(odd) - 1; more > 0 {
		problem += fmt.Sprintf("; so do %d more", more)
	}
	x.report(KindTransport, problem, "have all servers of a service speak the same, with the transport credentials that its clients have", where...)
}
