// Package doctor finds what is wrong with the services in etcd, and says what to do. Its checks are pure: what they look at
// is read, dialled and spoken to before them.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/tlsfiles"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Options is what there is to say about how to look.
type Options struct {
	// Lost returns what xDS cannot say of a service. It links policies that clients do not, so it is given.
	Lost func(serviceConfig string, endpoints []runtime.Endpoint) ([]string, error)

	skip         []string
	exclude      []string
	noDial       bool
	probeTimeout time.Duration
	deep         bool
	caFile       string
	roots        *x509.CertPool    // of caFile; nil: not given
	authorities  map[string]string // by service key, those that protos set
	serve        bool
	xds          bool
	token        int64
}

// AddTo adds the flags.
func (d *Options) AddTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&d.skip, "skip", nil, "`kinds` of faults not to look for, separated by commas")
	flags.StringSliceVar(&d.exclude, "exclude", nil, "`prefixes` of keys that are no services, separated by commas")
	flags.BoolVar(&d.noDial, "no-dial", false, "do not connect to the instances")
	flags.DurationVar(&d.probeTimeout, "probe-timeout", 2*time.Second, "how long an instance may take to accept a connection, and to answer each attempt to speak to it")
	flags.BoolVar(&d.deep, "deep", false, "speak to the instances as gRPC clients do: ask for their health, and look at their certificates where they have TLS")
	flags.StringVar(&d.caFile, "service-cacert", "", "with --deep: clients use TLS, and trust the CA bundle in this `file`")
	flags.StringToStringVar(&d.authorities, "service-authority", nil, "with --deep: the authority that a proto sets, as `KEY=NAME`")
	flags.Int64Var(&d.token, "token", 0, "the highest `token` that a store has seen of a leader at KEY: says whether etcd gives it again, as after a restore")
	flags.BoolVar(&d.xds, "xds", false, "look also for what etcdrpc xds cannot tell its clients of live policies and instances")
	flags.BoolVar(&d.serve, "serve", false, "look also whether --user may register instances at KEY; nothing is written")
}

// Check returns what is wrong with the command line.
func (d *Options) Check(args []string) (err error) {
	for _, name := range d.skip {
		if !slices.Contains(KindNames(), name) {
			return fmt.Errorf("--skip: no kind of fault is named %q: there are %s", name, strings.Join(KindNames(), ", "))
		}
	}
	isKey := len(args) > 0 && endpoint.CheckKey(args[0]) == nil // and no prefix that can be none
	switch {
	case d.probeTimeout <= 0:
		return errors.New("--probe-timeout must be above zero")
	case d.token != 0 && !isKey:
		return errors.New("--token needs a KEY")
	case d.serve && !isKey:
		return errors.New("--serve needs a KEY")
	case !d.deep && (d.caFile != "" || len(d.authorities) > 0):
		return errors.New("--service-cacert and --service-authority need --deep")
	case d.deep && d.noDial:
		return errors.New("--deep and --no-dial exclude each other")
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

func (d *Options) excludes(key string) bool {
	return slices.ContainsFunc(d.exclude, func(prefix string) bool { return isUnder(key, prefix) })
}

// isUnder reports whether the entries of the service at a key begin with a prefix.
func isUnder(key, prefix string) bool { return strings.HasPrefix(key+"/", prefix) }

func (d *Options) skips(k Kind) bool { return slices.Contains(d.skip, string(k)) }

// Examine looks at etcd and at the instances, and at nothing twice.
func (d *Options) Examine(ctx context.Context, dial dialing.Func, s *store.Store, key string) (*Report, error) {
	p := d.patient(nil, s.Full, s.Endpoints())
	p.exposed, p.now = s.Exposed, time.Now()
	if err := p.read(ctx, s, key); err != nil {
		return nil, err
	}
	p.services = slices.DeleteFunc(p.services, func(s *survey.Service) bool { return d.excludes(s.Key) })
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	p.alone = p.oneHost()
	speaker := &speaker{dial: dial, tlsFirst: d.roots != nil, timeout: d.probeTimeout}
	if d.deep || !d.noDial && !d.skips(KindUnreachable) {
		p.probed = true
		p.dead = speaker.probe(ctx, p.addresses())
	}
	if d.deep {
		p.listen(ctx, speaker)
	}
	if err := p.lookAtEtcd(ctx, s, speaker); err != nil {
		return nil, err
	}
	return p.diagnose(), ctx.Err()
}

// lookAtEtcd finds what is wrong with etcd itself.
func (p *patient) lookAtEtcd(ctx context.Context, s *store.Store, speaker *speaker) error {
	if p.skips(KindEtcd) {
		return nil
	}
	cluster, err := s.Cluster(ctx)
	if err != nil {
		return err
	}
	var dead map[string]error
	if !p.noDial {
		var hosts []string
		for _, m := range cluster.Members {
			hosts = append(hosts, etcdHosts(m.URLs)...)
		}
		dead = speaker.probe(ctx, hosts)
	}
	p.checkEtcd(cluster, dead)
	return nil
}

// Glance finds what is wrong with services that have been read, as far as it shows without their leases. They are sorted
// by key, full returns a key as etcd has it, and endpoints are etcd's.
func Glance(services []*survey.Service, full func(key string) string, endpoints []string) *Report {
	return new(Options).patient(services, full, endpoints).diagnose()
}

// Known finds what is wrong with one of the services that have been read, which are sorted by key. It looks at the leases
// of that one, and connects to no instance.
func Known(ctx context.Context, s *store.Store, services []*survey.Service, key string) (*Report, error) {
	p := new(Options).patient(slices.Clone(services), s.Full, s.Endpoints())
	p.key = key
	if at, found := slices.BinarySearchFunc(services, key, compareKeys); found {
		own := *services[at] // entries that have gone are taken out of it
		own.Instances, own.Malformed = slices.Clone(own.Instances), slices.Clone(own.Malformed)
		p.services[at] = &own
	}
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	return p.diagnose(), ctx.Err()
}

// patient returns what is known of services before anything else is looked at.
func (d *Options) patient(services []*survey.Service, full func(key string) string, endpoints []string) *patient {
	p := newPatient(services, full)
	p.Options, p.etcd = d, etcdHosts(endpoints)
	p.alone = p.oneHost()
	return p
}
