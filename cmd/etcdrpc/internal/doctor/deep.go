package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/tlsfiles"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// deep is how to look at what instances speak.
type deep struct {
	on          bool
	caFile      string
	authorities map[string]string // by service key, those that protos set
	roots       *x509.CertPool    // of caFile; nil: not given
}

func (d *deep) addTo(flags *pflag.FlagSet) {
	flags.BoolVar(&d.on, "deep", false, "speak to the instances as gRPC clients do: ask for their health, and look at their certificates where they have TLS")
	flags.StringVar(&d.caFile, "service-cacert", "", "with --deep: clients use TLS, and trust the CA bundle in this `file`")
	flags.StringToStringVar(&d.authorities, "service-authority", nil, "with --deep: the authority that a proto sets, as `KEY=NAME`")
}

func (d *deep) check(noDial bool) (err error) {
	switch {
	case !d.on && (d.caFile != "" || len(d.authorities) > 0):
		return fmt.Errorf("--service-cacert and --service-authority need --deep")
	case d.on && noDial:
		return fmt.Errorf("--deep and --no-dial exclude each other")
	}
	for _, key := range slices.Sorted(maps.Keys(d.authorities)) {
		if err := servicekey.CheckAuthority(d.authorities[key]); err != nil {
			return fmt.Errorf("--service-authority of %s: %q %w", key, d.authorities[key], err)
		}
	}
	if d.caFile != "" {
		d.roots, err = tlsfiles.Pool("--service-cacert", d.caFile)
	}
	return err
}

// spot is an instance of a service, as its clients see it.
type spot struct{ key, addr string }

// listen speaks to the instances that accept connections.
func (p *patient) listen(ctx context.Context, dial dialing.Func, d *Options) {
	var partners []partner
	var spots []spot
	for _, s := range p.examined() {
		name := servicekey.TLSName(s.Key, d.deep.authorities[s.Key])
		for _, i := range s.Merged().Instances {
			if p.dead[i.Addr] == nil && !p.isMisleading(i.Addr) {
				partners = append(partners, partner{i.Addr, name, servicesAsked(s, &i)})
				spots = append(spots, spot{s.Key, i.Addr})
			}
		}
	}
	speaker := speaker{dial: dial, tlsFirst: d.deep.roots != nil, timeout: d.probeTimeout}
	p.heard = make(map[spot]speech, len(spots))
	for n, heard := range speaker.speakAll(ctx, partners) {
		p.heard[spots[n]] = heard
	}
}

// servicesOf returns the gRPC services that an instance publishes.
func servicesOf(i *survey.Instance) (names []string) {
	for _, method := range survey.DeclaredMethods(&i.Endpoint) {
		if name, _, _ := strings.Cut(method, "/"); name != "" && !survey.IsInfrastructure(name) {
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}

// servicesAsked returns the services whose health an instance is asked for: those that it publishes, and the one that the live
// policy has clients ask for.
func servicesAsked(s *survey.Service, i *survey.Instance) []string {
	names := servicesOf(i)
	config, err := s.Live()
	if err != nil || config == nil || config.HealthCheck == nil || config.HealthCheck.ServiceName == "" || slices.Contains(names, config.HealthCheck.ServiceName) {
		return names
	}
	return append(names, config.HealthCheck.ServiceName)
}

// checkSpeech finds what is wrong with what the instances of a service speak.
func (p *patient) checkSpeech(s *survey.Service, d *Options) (all []Finding) {
	if p.heard == nil {
		return nil
	}
	var secure, plain []survey.Instance
	drained := s.Drained()
	for _, i := range s.Merged().Instances {
		heard, spoken := p.heard[spot{s.Key, i.Addr}]
		if !spoken {
			continue
		}
		where := []string{p.full(i.Entry.Key)}
		switch {
		case heard.tls:
			secure = append(secure, i)
			if heard.grpc || heard.wantsCert || heard.mute {
				all = append(all, checkCertificate(s, &i, heard, where, d)...)
			}
		case heard.grpc:
			plain = append(plain, i)
		}
		switch {
		case heard.wantsCert:
		case heard.mute:
			all = append(all, newFinding(KindNotServing, where, fmt.Sprintf("%s speaks HTTP/2, but did not answer gRPC's health check within %v", i.Addr, d.probeTimeout),
				"look at its server's log: it hangs, or has too much to do, or what its health check waits for does; --probe-timeout gives it more time"))
		case !heard.grpc:
			all = append(all, notGRPC(s, &i, heard, where))
		case !drained[i.Addr]:
			all = append(all, heard.health.check(i.Addr, servicesOf(&i), where)...)
		}
	}
	return append(all, p.checkTransport(secure, plain, d)...)
}

func notGRPC(s *survey.Service, i *survey.Instance, heard speech, where []string) Finding {
	fix := "have its server advertise the port on which it serves gRPC (GRPC_ADVERTISE_ADDR)"
	if heard.tls && len(heard.certs) == 0 { // it may be the name that it refuses
		fix += fmt.Sprintf("; where the proto sets another authority: --service-authority %s=NAME", output.Shell(s.Key))
	}
	return newFinding(KindNotGRPC, where, i.Addr+" "+heard.what, fix)
}

func checkCertificate(s *survey.Service, i *survey.Instance, heard speech, where []string, d *Options) (all []Finding) {
	name := servicekey.TLSName(s.Key, d.deep.authorities[s.Key])
	fix := fmt.Sprintf("give its server a certificate of the services' authority for %s; where the proto sets another authority: --service-authority %s=NAME", orAnyName(name), output.Shell(s.Key))
	if len(heard.certs) > 0 && isIdentity(heard.certs[0]) {
		fix += fmt.Sprintf("; where all clients have credentials that verify identities, and somebody else watches how long these last: --skip %s", KindCertificate)
	}
	for _, fault := range certificateFaults(heard.certs, name, d.deep.roots, time.Now()) {
		all = append(all, newFinding(KindCertificate, where, i.Addr+": "+fault, fix))
	}
	if ends := certificateEnds(heard.certs, time.Now()); ends != "" {
		all = append(all, newFinding(KindCertificateEnds, where, i.Addr+": "+ends, "renew it, and see that its server takes the new one; if that happens by itself, see why it has not yet"))
	}
	return all
}

func orAnyName(name string) string {
	if name == "" {
		return "the authority of the proto"
	}
	return name
}

// checkTransport finds the instances without TLS where clients use it or, where that is not known, those that differ from
// most of their service.
func (p *patient) checkTransport(secure, plain []survey.Instance, d *Options) []Finding {
	var odd []survey.Instance
	var speak string
	switch {
	case len(plain) == 0 || len(secure) == 0 && d.deep.roots == nil:
		return nil
	case d.deep.roots != nil:
		odd, speak = plain, "plaintext where clients use TLS (--service-cacert)"
	case len(plain) <= len(secure):
		odd, speak = plain, fmt.Sprintf("plaintext where %d of the service speak TLS, and clients do not speak both", len(secure))
	default:
		odd, speak = secure, fmt.Sprintf("TLS where %d of the service speak plaintext, and clients do not speak both", len(plain))
	}
	var where []string
	for _, i := range odd {
		where = append(where, p.full(i.Entry.Key))
	}
	slices.Sort(where)
	problem := odd[0].Addr + " speaks " + speak
	if more := len(odd) - 1; more > 0 {
		problem += fmt.Sprintf("; so do %d more", more)
	}
	return []Finding{newFinding(KindTransport, where, problem,
		"have all servers of a service speak the same, with the transport credentials that its clients have")}
}
