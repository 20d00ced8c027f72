// Package doctor examines the services in etcd, and has a remedy for each
// finding. Its checks do no I/O: etcd is read, and the instances are contacted,
// before they run.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Options are the flags of doctor.
type Options struct {
	skip, exclude   []string
	failOn          Severity
	noDial          bool
	probeTimeout    time.Duration
	deep, plaintext bool
	files           transport.Files
	authorities     map[string]string // authorities that protos set, by service key
}

// AddTo adds the flags.
func (d *Options) AddTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&d.skip, "skip", nil,
		"`kinds` of findings to skip, separated by commas")
	flags.StringVar((*string)(&d.failOn), "fail-on", string(Warning),
		"the least `severity` of a finding that makes the exit code 1: error or warning")
	flags.StringSliceVar(&d.exclude, "exclude", nil,
		"`prefixes` of keys to skip, separated by commas")
	flags.BoolVar(&d.noDial, "no-dial", false, "do not connect to the instances")
	flags.DurationVar(&d.probeTimeout, "probe-timeout", 2*time.Second,
		"how long an instance may take to accept a connection, and to answer")
	flags.BoolVar(&d.deep, "deep", false,
		"ask the instances for their health, as gRPC clients do")
	flags.BoolVar(&d.plaintext, "plaintext", false, "with --deep: clients use no TLS")

	d.files.AddTo(flags, "service-",
		"with --deep: clients trust the CA bundle in this `file`",
		"with --deep: clients identify by the TLS certificate in this `file`",
		"with --deep: the TLS key `file` of --service-cert")

	flags.StringToStringVar(&d.authorities, "service-authority", nil,
		"with --deep: the authority that a proto sets, as `KEY=NAME`")
}

// Check returns an error if the flags are invalid.
func (d *Options) Check() (err error) {
	for _, name := range d.skip {
		if !slices.Contains(KindNames(), name) {
			return fmt.Errorf("--skip: no kind of finding is named %q: want one of %s",
				name, strings.Join(KindNames(), ", "))
		}
	}

	describesTransport := d.plaintext ||
		len(d.authorities) > 0 ||
		d.files != transport.Files{Prefix: d.files.Prefix}

	switch {
	case !slices.Contains(Severities, string(d.failOn)):
		return fmt.Errorf("--fail-on %q: want %s", string(d.failOn),
			strings.Join(Severities, " or "))
	case d.probeTimeout <= 0:
		return errors.New("--probe-timeout must be above zero")
	case describesTransport && !d.deep:
		return errors.New("--plaintext and the flags --service-* need --deep")
	case d.deep && d.noDial:
		return errors.New("--deep and --no-dial exclude each other")
	}

	_, err = d.files.Config()

	return err
}

// Examine reads etcd, contacts the instances, and returns the findings on the
// service at key or on the services below key.
func (d *Options) Examine(
	ctx context.Context,
	dial transport.DialFunc,
	s *store.Store,
	key string,
	notes io.Writer,
) (*Report, error) {
	p := d.newExamination(&store.Snapshot{}, s.Full, s.Endpoints)
	if err := p.read(ctx, s, key, notes); err != nil {
		return nil, err
	}

	p.services = slices.DeleteFunc(p.services, func(s *inventory.Service) bool {
		return slices.ContainsFunc(d.exclude, func(prefix string) bool {
			return strings.HasPrefix(s.Key+"/", prefix)
		})
	})

	p.readEarlier(ctx, s)

	if d.deep || !d.noDial && !slices.Contains(d.skip, kindUnreachable) {
		p.connect(ctx, dial)
	}

	if d.deep && p.probed {
		p.checkHealth(ctx, dial)
	}

	err := p.readLeases(ctx, s)

	return p.diagnose(), cmp.Or(err, ctx.Err())
}

// connect connects to the addresses of all instances. If this process may not
// open enough files, all addresses count as unchecked.
func (p *examination) connect(ctx context.Context, dial transport.DialFunc) {
	p.probed = true
	p.dialErrors = p.connectAll(ctx, dial, p.addresses())

	for addr, err := range p.dialErrors {
		if errors.Is(err, syscall.EMFILE) { // the address may be reachable
			problem := fmt.Sprintf("the instances are not checked: connect to %s: %v",
				addr, err)
			p.add("", kindOpenFiles, Error, problem,
				"raise the limit of open files (ulimit -n), or give --no-dial")

			p.probed = false
			p.dialErrors = nil

			return
		}
	}
}

// Glance returns the findings that are visible without reading leases and
// without contacting instances. full adds the namespace to a key, and endpoints
// are etcd's addresses.
func Glance(n *store.Snapshot, full func(key string) string, endpoints []string) *Report {
	return new(Options).newExamination(n, full, endpoints).diagnose()
}

// newExamination returns an examination of the services of a snapshot.
func (d *Options) newExamination(
	n *store.Snapshot,
	full func(key string) string,
	endpoints []string,
) *examination {
	return &examination{
		Options:    d,
		full:       full,
		services:   n.Services,
		remoteEtcd: len(store.Remote(endpoints)) > 0,
		causes:     make(map[string]int),
	}
}

// examination is the data that doctor examines, and its findings.
type examination struct {
	*Options
	full       func(key string) string // adds the namespace to a key
	services   []*inventory.Service    // sorted by key
	leases     map[int64]lease
	remoteEtcd bool                         // etcd is on another host
	probed     bool                         // connections to the addresses were tried
	dialErrors map[string]error             // by address
	health     map[serviceAddr]healthResult // of the instances that were checked

	// the start times of instances when the live config was written
	earlier map[serviceAddr]string

	zones    map[string]int // numbers of entries
	causes   map[string]int // indices into findings, by kind and cause
	findings []Finding
}

// read reads the service at key or, if there is none, the services whose keys
// begin with key.
func (p *examination) read(
	ctx context.Context,
	s *store.Store,
	key string,
	notes io.Writer,
) (err error) {
	n := &store.Snapshot{}
	if endpoint.CheckKey(key) == nil {
		n, err = s.At(ctx, key)
	}

	if err == nil &&
		(len(n.Services) == 0 || !n.Services[0].InUse() && n.Services[0].Config == nil) {
		n, err = s.Under(ctx, key)
	}

	if errors.Is(err, store.ErrDenied) {
		return fmt.Errorf("%w: run doctor on a KEY that this user may read, or grant the user a role that may read more (docs/security.md)", err)
	}

	if err != nil {
		return err
	}

	if n.Denied != nil {
		p.add("", kindPermission, Error,
			"live configs and drains are not checked: "+n.Denied.Error(),
			"run doctor with this role, or with another that may read live configs")
	}

	for _, endpoint := range s.Silent(ctx) {
		output.Sayf(notes, "etcd does not answer at %s.\n", endpoint)
	}

	full, corrupt, err := s.Alarms(ctx)
	if corrupt {
		p.add("", kindCorrupt, Error,
			"the data of etcd's members differ, so it refuses writes: no server that starts can register, and the entries of dead ones stay",
			store.ReplaceMember)
	}

	if full {
		p.add("", kindNoSpace, Warning,
			"etcd's database is full: no server that starts can register, and no live config can be set",
			store.MakeSpace)
	}

	if n.Within != "" {
		output.Sayf(notes, "%s\n", n.Note)
	}

	p.services = n.Services
	if len(p.services) == 0 {
		p.add("", kindEmpty, Error, "nothing is registered there",
			"if servers are running, compare their etcd, namespace and key with these, and look at their logs",
			key)
	}

	return err
}

// readEarlier looks for live configs that drain instances which registered
// later. For each, it reads the service's instances as of the config's
// revision, unless etcd has compacted that revision. It reads the range of
// LEASE_SUFFIX only if an instance has that layout, because not every user may
// read the range.
func (p *examination) readEarlier(ctx context.Context, s *store.Store) {
	p.earlier = make(map[serviceAddr]string)

	for _, service := range p.services {
		isNew := func(i inventory.Instance) bool {
			return i.Drain != nil && i.Entry.CreateRevision > service.Config.ModRevision
		}
		if !slices.ContainsFunc(service.Instances, isNew) {
			continue
		}

		var reader endpoint.Reader
		for _, i := range service.Instances {
			reader.LeaseSuffix = reader.LeaseSuffix || i.Layout == endpoint.LeaseSuffix
		}

		// After an error, every instance counts as a new server.
		entries, _, _ := s.Scan(ctx, store.EntriesOf(reader, service.Key),
			service.Config.ModRevision)
		for _, i := range inventory.Of(service.Key, entries).Instances {
			p.earlier[serviceAddr{service.Key, i.Addr}] = i.Metadata[endpoint.StartedName]
		}
	}
}

// addresses returns the addresses to connect to, without duplicates.
func (p *examination) addresses() []string {
	set := make(map[string]bool)
	for _, i := range inventory.Entries(p.services) {
		if i.Err == nil && !i.Leaving() {
			set[i.Addr] = true
		}
	}

	return slices.Sorted(maps.Keys(set))
}
