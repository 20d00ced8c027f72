package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// doctor is what there is to say about how to look.
type doctor struct {
	skip         []string
	noDial       bool
	serve        bool
	deep         deep
	probeTimeout time.Duration
}

func newDoctor(a *app) *cobra.Command {
	var d doctor
	cmd := &cobra.Command{
		Use:   "doctor [KEY]",
		Short: "Find what is wrong, and say what to do",
		Long: `doctor looks at all services, or at the one at KEY and what lies below and beside
it, and tells for everything that is wrong what it is, where, and what to do. It
changes nothing. It exits with 1 when something is wrong.

What it looks for:
` + kindsHelp() + `
It connects to each address from where it runs, and says no more to it; --no-dial
leaves that out. With --deep it asks each for its health, as gRPC clients do, and
looks at the certificates of those that speak TLS.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return keyArgs(0)(cmd, args)
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			if err := d.check(args); err != nil {
				return usageError{err}
			}
			r, err := d.examine(ctx, a, s, args)
			if err != nil {
				return err
			}
			return r.show(cmd.OutOrStdout(), a.output)
		}),
	}
	d.addTo(cmd.Flags())
	complete(cmd.RegisterFlagCompletionFunc("skip", cobra.FixedCompletions(kindNames(), noFiles)))
	return cmd
}

func (d *doctor) addTo(flags *pflag.FlagSet) {
	flags.StringSliceVar(&d.skip, "skip", nil, "`kinds` of faults not to look for, separated by commas")
	flags.BoolVar(&d.noDial, "no-dial", false, "do not connect to the instances")
	flags.DurationVar(&d.probeTimeout, "probe-timeout", 2*time.Second, "how long an instance may take to accept a connection, and to answer each attempt to speak to it")
	d.deep.addTo(flags)
	flags.BoolVar(&d.serve, "serve", false, "look also whether --user may register instances at KEY; nothing is written")
}

func (d *doctor) check(args []string) error {
	for _, name := range d.skip {
		if !slices.Contains(kindNames(), name) {
			return fmt.Errorf("--skip: no kind of fault is named %q: there are %s", name, strings.Join(kindNames(), ", "))
		}
	}
	if d.probeTimeout <= 0 {
		return errors.New("--probe-timeout must be above zero")
	}
	if d.serve && len(args) == 0 {
		return errors.New("--serve needs a KEY")
	}
	return d.deep.check(d.noDial)
}

func (d *doctor) skips(k kind) bool { return slices.Contains(d.skip, string(k)) }

// examine looks at etcd and at the instances, and at nothing twice.
func (d *doctor) examine(ctx context.Context, a *app, s *store, args []string) (*report, error) {
	p := &patient{full: s.full, exposed: s.exposed, etcd: etcdHosts(s.client.Endpoints())}
	var err error
	if len(args) == 0 {
		err = p.readAll(ctx, s)
	} else {
		err = p.readKey(ctx, s, args[0])
		if d.serve && err == nil {
			err = p.askToServe(ctx, s, args[0])
		}
	}
	if err != nil {
		return nil, err
	}
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	p.alone = p.oneHost()
	if d.deep.on || !d.noDial && !d.skips(kindUnreachable) {
		p.probed = true
		p.dead = probe(ctx, a.dial, p.addresses(), d.probeTimeout)
	}
	if d.deep.on {
		p.listen(ctx, a, d)
	}
	return p.report(d), ctx.Err()
}

// patient is what doctor looks at.
type patient struct {
	key      string     // "" all
	services []*service // those looked at
	leases   map[int64]leaseTime
	stale    map[int64]bool      // leases that nobody renews
	probed   bool                // the addresses were connected to
	dead     map[string]error    // addresses that do not answer
	heard    map[place]speech    // what instances speak; nil: they were not asked
	etcd     []string            // hosts of etcd
	alone    bool                // everything is on one host
	inUse    map[string]*service // by key, those with entries; nil until they are asked for
	findings []finding           // of reading
	part     string              // says what alone the user may read; "": all
	exposed  []string            // hosts that the password is sent to without TLS
	full     func(key string) string
}

// readAll reads whatever the user may.
func (p *patient) readAll(ctx context.Context, s *store) error {
	entries, parts, err := s.scanReadable(ctx, everything)
	if errors.Is(err, errDenied) {
		return p.readClosed(ctx, s, err)
	}
	if err != nil {
		return err
	}
	p.services = surveyAll(entries)
	p.services = slices.DeleteFunc(p.services, func(s *service) bool { return !s.evident() })
	if parts == nil {
		return nil
	}
	p.part = partOnly(s.user, parts)
	configs := prefixRange(configPrefix)
	if !slices.ContainsFunc(parts, func(part keyRange) bool { return part.contains(configs) }) {
		if err := p.readConfigs(ctx, s); err != nil {
			return err
		}
	}
	grants, err := s.grants(ctx)
	if err != nil {
		return err
	}
	return p.readGranted(ctx, s, grants)
}

// readClosed reads what a user may who may list nothing: the live configs that are granted one by one.
func (p *patient) readClosed(ctx context.Context, s *store, failed error) error {
	if s.user != "" {
		grants, err := s.grants(ctx)
		if err == nil && len(grantedConfigs(grants)) > 0 {
			return p.readGranted(ctx, s, grants)
		}
	}
	p.findings = append(p.findings, denied(ctx, s, everything, rightRead, "no service can be found", failed))
	return nil
}

// readConfigs reads the live config of each service by itself.
func (p *patient) readConfigs(ctx context.Context, s *store) error {
	for _, service := range p.services {
		if err := p.readConfig(ctx, s, service); err != nil {
			return err
		}
	}
	return nil
}

func (p *patient) readConfig(ctx context.Context, s *store, service *service) (err error) {
	key := configPrefix + service.key
	service.config, err = s.get(ctx, key)
	if !errors.Is(err, errDenied) {
		return err
	}
	if serves, servesErr := s.mayServe(ctx, service.key); serves || servesErr != nil {
		return servesErr
	}
	p.findings = append(p.findings, denied(ctx, s, keyRange{from: key}, rightRead, "clients of this user take no notice of a live policy", err))
	return nil
}

// readKey reads one service with what lies below it and, where that is allowed, those whose keys begin
// with its key.
func (p *patient) readKey(ctx context.Context, s *store, key string) error {
	p.key = key
	entries, _, err := s.scan(ctx, prefixRange(key))
	if errors.Is(err, errDenied) {
		entries, err = s.entriesInParts(ctx, key)
	}
	if errors.Is(err, errDenied) {
		return p.readSteered(ctx, s, key, err)
	}
	if err != nil {
		return err
	}
	own, others := surveyKey(key, entries)
	p.services = append([]*service{own}, slices.DeleteFunc(others, func(s *service) bool { return !s.evident() })...)
	return p.readConfig(ctx, s, own)
}

// readSteered reads the live config alone of a service whose entries are closed to the user, as they are to a role that
// changes live policies.
func (p *patient) readSteered(ctx context.Context, s *store, key string, failed error) error {
	steers, err := s.maySteer(ctx, key)
	if err != nil {
		return err
	}
	if !steers {
		from, end := endpoint.Reader{}.Range(key)
		p.findings = append(p.findings, denied(ctx, s, keyRange{from, end}, rightRead, "clients of this user find no instance", failed))
		return nil
	}
	own := &service{key: key, closed: true}
	p.services = []*service{own}
	return p.readConfig(ctx, s, own)
}

func (p *patient) askToServe(ctx context.Context, s *store, key string) error {
	from, end := endpoint.Reader{}.Range(key)
	err := s.mayWrite(ctx, from+"doctor")
	if errors.Is(err, errDenied) {
		p.findings = append(p.findings, denied(ctx, s, keyRange{from, end}, rightReadWrite, "servers of this user cannot register", err))
		return nil
	}
	return err
}

// renewal is how long to wait before a lease is looked at again that has little time left. Without a
// renewal it then has at least a second less; etcd's clients renew one when a third of its time has
// passed.
const renewal = 1500 * time.Millisecond

// readLeases looks at the time left on all leases, and again at those that have little.
func (p *patient) readLeases(ctx context.Context, s *store) (err error) {
	if p.leases, err = s.leases(ctx, leaseIDs(p.services)); err != nil {
		return err
	}
	var doubtful []int64
	for _, id := range sortedKeys(p.leases) {
		if t := p.leases[id]; t.left*3 <= t.granted {
			doubtful = append(doubtful, id)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	pause(ctx, renewal)
	again, err := s.leases(ctx, doubtful)
	if err != nil {
		return err
	}
	p.stale = make(map[int64]bool)
	for id, now := range again {
		if now.expired() || now.left < p.leases[id].left {
			p.stale[id] = true
		}
		p.leases[id] = now
	}
	return p.forgetGone(ctx, s)
}

// forgetGone leaves out the entries that went with their leases meanwhile, as they should.
func (p *patient) forgetGone(ctx context.Context, s *store) error {
	var failed error
	gone := func(i instance) bool {
		if !p.leases[i.entry.lease].expired() || i.entry.lease == 0 {
			return false
		}
		found, err := s.get(ctx, i.entry.key)
		if err != nil {
			failed = err
		}
		return err == nil && (found == nil || found.lease != i.entry.lease)
	}
	for _, service := range p.services {
		service.instances = slices.DeleteFunc(service.instances, gone)
		service.malformed = slices.DeleteFunc(service.malformed, gone)
	}
	return failed
}

// examined are the services that faults are looked for in: one, where a key was given.
func (p *patient) examined() []*service {
	if p.key != "" {
		return p.services[:min(1, len(p.services))]
	}
	return p.services
}

// addresses are all that are to be connected to, each once: those of instances, and those of entries that only a person
// can read and that no lease tells to be alive.
func (p *patient) addresses() []string {
	set := make(map[string]bool)
	for _, s := range p.examined() {
		for _, i := range s.instances {
			if !i.Leaving() {
				set[i.Addr] = !p.isMisleading(i.Addr)
			}
		}
		for _, i := range s.malformed {
			if addr := addressOf(&i); i.entry.lease == 0 && addr != "" {
				set[addr] = !p.isMisleading(addr)
			}
		}
	}
	maps.DeleteFunc(set, func(_ string, dial bool) bool { return !dial })
	return sortedKeys(set)
}

// contains reports whether all of o is in r.
func (r keyRange) contains(o keyRange) bool {
	return r.from <= o.from && (r.end == "\x00" || o.end != "\x00" && o.end <= r.end)
}

// report is what doctor found.
type report struct {
	Services  int       `json:"services"`  // that were looked at
	Instances int       `json:"instances"` // well-formed or not
	Findings  []finding `json:"findings"`
	Notes     []finding `json:"notes,omitempty"` // what is no fault
	Part      string    `json:"part,omitempty"`  // what alone the user may read, in words
}

func (p *patient) report(d *doctor) *report {
	r := &report{Findings: []finding{}, Part: p.part}
	for _, s := range p.examined() {
		r.Services++
		r.Instances += len(s.instances) + len(s.malformed)
	}
	for _, f := range slices.Concat(p.findings, p.check(d)) {
		if !d.skips(f.Kind) {
			r.Findings = append(r.Findings, f)
		}
	}
	for _, s := range p.examined() {
		if !d.skips(kindJSONLayout) {
			r.Notes = append(r.Notes, p.noteHomeMade(s)...)
		}
	}
	return r
}

func (r *report) show(out io.Writer, f format) error {
	if f == formatJSON {
		if err := writeJSON(out, r); err != nil {
			return err
		}
	} else {
		r.print(out)
	}
	if len(r.Findings) > 0 {
		return errFound
	}
	return nil
}

func (r *report) print(out io.Writer) {
	for _, f := range slices.Concat(r.Findings, r.Notes) {
		f.print(out)
	}
	if r.Part != "" {
		sayf(out, "%s\n", r.Part)
	}
	looked := counted(r.Services, "service") + ", " + counted(r.Instances, "instance")
	if len(r.Findings) == 0 {
		sayf(out, "Nothing is wrong with %s.\n", looked)
		return
	}
	sayf(out, "%s wrong with %s.\n", isAre(len(r.Findings)), looked)
}

func (f finding) print(out io.Writer) {
	sayf(out, "%s: %s\n", f.Kind, f.Problem)
	for _, key := range f.Where {
		sayf(out, "  at  %s\n", key)
	}
	sayf(out, "  do  %s\n\n", f.Fix)
}

func isAre(n int) string {
	if n == 1 {
		return "1 thing is"
	}
	return fmt.Sprintf("%d things are", n)
}
