// Package doctor finds what is wrong with the services in etcd, and says what to do. Its checks are pure: what they look at
// is read, dialled and spoken to before them.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/tlsfiles"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Options is what there is to say about how to look.
type Options struct {
	// Lost returns what xDS cannot say of a service. It links policies that clients do not, so it is given.
	Lost func(serviceConfig string, endpoints []runtime.Endpoint) ([]string, error)

	skip, exclude   []string
	noDial          bool
	probeTimeout    time.Duration
	deep, plaintext bool
	caFile          string
	roots           *x509.CertPool    // of caFile; nil: the system's
	authorities     map[string]string // by service key, those that protos set
	xds             bool
}

// AddTo adds the flags.
func (d *Options) AddTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&d.skip, "skip", nil, "`kinds` of faults not to look for, separated by commas")
	flags.StringSliceVar(&d.exclude, "exclude", nil, "`prefixes` of keys that are no services, separated by commas")
	flags.BoolVar(&d.noDial, "no-dial", false, "do not connect to the instances")
	flags.DurationVar(&d.probeTimeout, "probe-timeout", 2*time.Second, "how long an instance may take to accept a connection, and to answer")
	flags.BoolVar(&d.deep, "deep", false, "ask the instances for their health, as gRPC clients do")
	flags.BoolVar(&d.plaintext, "plaintext", false, "with --deep: clients use no TLS")
	flags.StringVar(&d.caFile, "service-cacert", "", "with --deep: clients trust the CA bundle in this `file`")
	flags.StringToStringVar(&d.authorities, "service-authority", nil, "with --deep: the authority that a proto sets, as `KEY=NAME`")
	flags.BoolVar(&d.xds, "xds", false, "look also for what etcdrpc xds cannot tell its clients of live policies and instances")
}

// Check returns what is wrong with the command line.
func (d *Options) Check() (err error) {
	for _, name := range d.skip {
		if !slices.Contains(KindNames(), name) {
			return fmt.Errorf("--skip: no kind of fault is named %q: there are %s", name, strings.Join(KindNames(), ", "))
		}
	}
	switch {
	case d.probeTimeout <= 0:
		return errors.New("--probe-timeout must be above zero")
	case !d.deep && (d.caFile != "" || d.plaintext || len(d.authorities) > 0):
		return errors.New("--plaintext, --service-cacert and --service-authority need --deep")
	case d.deep && d.noDial:
		return errors.New("--deep and --no-dial exclude each other")
	case d.caFile != "":
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
	p := d.patient(&store.Snapshot{}, s.Full, s.Endpoints())
	p.exposed, p.now = s.Exposed, time.Now()
	if err := p.read(ctx, s, key); err != nil {
		return nil, err
	}
	p.services = slices.DeleteFunc(p.services, func(s *survey.Service) bool { return d.excludes(s.Key) })
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	p.alone = p.oneHost()
	if d.deep || !d.noDial && !d.skips(KindUnreachable) {
		p.probed = true
		p.dead = d.connectAll(ctx, dial, p.addresses())
	}
	if d.deep {
		p.askAll(ctx, dial)
	}
	return p.diagnose(), ctx.Err()
}

// Glance finds what is wrong with services that have been read, as far as it shows without their leases. full returns a key as
// etcd has it, and endpoints are etcd's.
func Glance(n *store.Snapshot, full func(key string) string, endpoints []string) *Report {
	return new(Options).patient(n, full, endpoints).diagnose()
}

// patient returns what is known of services before anything else is looked at.
func (d *Options) patient(n *store.Snapshot, full func(key string) string, endpoints []string) *patient {
	p := &patient{Options: d, full: full, services: n.Services, etcd: etcdHosts(endpoints), unreachable: make(map[string]int)}
	p.alone = p.oneHost()
	return p
}

// etcdHosts returns endpoints of etcd without their schemes. A Unix socket is on this host.
func etcdHosts(endpoints []string) (hosts []string) {
	for _, e := range endpoints {
		if strings.HasPrefix(e, "unix") {
			continue
		}
		if _, rest, ok := strings.Cut(e, "://"); ok {
			e = strings.Trim(rest, "/")
		}
		hosts = append(hosts, e)
	}
	return hosts
}
