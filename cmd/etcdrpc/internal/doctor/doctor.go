// Package doctor finds what is wrong with the services in etcd, and says what to do. Its checks are pure: what they look at
// is read, dialled and spoken to before them.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Options is what there is to say about how to look.
type Options struct {
	// Lost returns what xDS cannot say of a service. It links policies that clients do not, so it is given.
	Lost func(serviceConfig string, endpoints []runtime.Endpoint) ([]string, error)

	skip         []string
	exclude      []string
	noDial       bool
	serve        bool
	xds          bool
	token        int64
	deep         deep
	probeTimeout time.Duration
}

// AddTo adds the flags.
func (d *Options) AddTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&d.skip, "skip", nil, "`kinds` of faults not to look for, separated by commas")
	flags.StringSliceVar(&d.exclude, "exclude", nil, "`prefixes` of keys that are no services, separated by commas")
	flags.BoolVar(&d.noDial, "no-dial", false, "do not connect to the instances")
	flags.DurationVar(&d.probeTimeout, "probe-timeout", 2*time.Second, "how long an instance may take to accept a connection, and to answer each attempt to speak to it")
	d.deep.addTo(flags)
	flags.Int64Var(&d.token, "token", 0, "the highest `token` that a store has seen of a leader at KEY: says whether etcd gives it again, as after a restore")
	flags.BoolVar(&d.xds, "xds", false, "look also for what etcdrpc xds cannot tell its clients of live policies and instances")
	flags.BoolVar(&d.serve, "serve", false, "look also whether --user may register instances at KEY; nothing is written")
}

// Check returns what is wrong with the command line.
func (d *Options) Check(args []string) error {
	for _, name := range d.skip {
		if !slices.Contains(KindNames(), name) {
			return fmt.Errorf("--skip: no kind of fault is named %q: there are %s", name, strings.Join(KindNames(), ", "))
		}
	}
	if d.probeTimeout <= 0 {
		return errors.New("--probe-timeout must be above zero")
	}
	if d.token != 0 && len(args) == 0 {
		return errors.New("--token needs a KEY")
	}
	if d.serve && len(args) == 0 {
		return errors.New("--serve needs a KEY")
	}
	return d.deep.check(d.noDial)
}

func (d *Options) excludes(key string) bool {
	return slices.ContainsFunc(d.exclude, func(prefix string) bool { return isUnder(key, prefix) })
}

// isUnder reports whether the entries of the service at a key begin with a prefix.
func isUnder(key, prefix string) bool { return strings.HasPrefix(key+"/", prefix) }

func (d *Options) skips(k Kind) bool { return slices.Contains(d.skip, string(k)) }

// Examine looks at etcd and at the instances, and at nothing twice.
func (d *Options) Examine(ctx context.Context, dial dialing.Func, s *store.Store, key string) (*Report, error) {
	p := &patient{full: s.Full, exposed: s.Exposed, etcd: etcdHosts(s.Endpoints()), now: time.Now(), candidates: make(map[string][]store.Candidate)}
	if err := p.read(ctx, s, key, d); err != nil {
		return nil, err
	}
	p.services = slices.DeleteFunc(p.services, func(s *survey.Service) bool { return d.excludes(s.Key) })
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	p.alone = p.oneHost()
	if d.deep.on || !d.noDial && !d.skips(KindUnreachable) {
		p.probed = true
		p.dead = probe(ctx, dial, p.addresses(), d.probeTimeout)
	}
	if d.deep.on {
		p.listen(ctx, dial, d)
	}
	if err := p.lookAtEtcd(ctx, dial, s, d); err != nil {
		return nil, err
	}
	return p.report(d), ctx.Err()
}

// lookAtEtcd finds what is wrong with etcd itself.
func (p *patient) lookAtEtcd(ctx context.Context, dial dialing.Func, s *store.Store, d *Options) error {
	if d.skips(KindEtcd) {
		return nil
	}
	cluster, err := s.Cluster(ctx)
	if err != nil {
		return err
	}
	var dead map[string]error
	if !d.noDial {
		dead = probe(ctx, dial, hostsOf(cluster.Members), d.probeTimeout)
	}
	p.findings = append(p.findings, checkEtcd(cluster, dead)...)
	return nil
}

// read reads the service at a key or, where there is none, those whose keys begin with it.
func (p *patient) read(ctx context.Context, s *store.Store, key string, d *Options) error {
	if endpoint.CheckKey(key) != nil {
		return p.readUnder(ctx, s, key)
	}
	err := p.readWithCandidates(ctx, s, key)
	if d.token > 0 && err == nil {
		err = p.askRevision(ctx, s, key, d.token)
	}
	if d.serve && err == nil {
		err = p.askToServe(ctx, s, key)
	}
	if err == nil && len(p.services) > 1 && isNothing(p.services[0]) {
		return p.readUnder(ctx, s, key)
	}
	return err
}

// readUnder reads the services whose keys begin with a prefix, which may be "".
func (p *patient) readUnder(ctx context.Context, s *store.Store, prefix string) error {
	p.key = ""
	err := p.readAll(ctx, s, prefix)
	if err == nil && prefix != "" && len(p.services)+len(p.findings) == 0 {
		p.findings = append(p.findings, empty(s.Full(prefix)))
	}
	return err
}

// Glance finds what is wrong with services that have been read, as far as it shows without their leases. They are sorted
// by key, full returns a key as etcd has it, and endpoints are etcd's.
func Glance(services []*survey.Service, full func(key string) string, endpoints []string) *Report {
	p := known(services, full, endpoints)
	return p.report(&Options{noDial: true})
}

// Known finds what is wrong with one of the services that have been read, which are sorted by key. It looks at the leases
// of that one, and connects to no instance.
func Known(ctx context.Context, s *store.Store, services []*survey.Service, key string) (*Report, error) {
	p := known(services, s.Full, s.Endpoints())
	p.key = key
	if at, found := slices.BinarySearchFunc(services, key, compareKeys); found {
		own := *services[at] // entries that have gone are taken out of it
		own.Instances, own.Malformed = slices.Clone(own.Instances), slices.Clone(own.Malformed)
		p.services = slices.Clone(services)
		p.services[at] = &own
	}
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	return p.report(&Options{noDial: true}), ctx.Err()
}

// known returns what is looked at of services that have been read. That the password is sent without TLS is no fault of
// theirs.
func known(services []*survey.Service, full func(key string) string, endpoints []string) *patient {
	p := &patient{services: services, full: full, etcd: etcdHosts(endpoints)}
	p.alone = p.oneHost()
	return p
}
