package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// patient is what doctor looks at, and what it found.
type patient struct {
	*Options
	full        func(key string) string             // a key as etcd has it
	key         string                              // "" all
	services    []*survey.Service                   // those looked at, and others; sorted by key
	parents     map[*survey.Service]*survey.Service // see [patient.parent]; of those that were asked for
	readings    Readings                            // of the services, by other frameworks' readers
	spelled     map[string]*survey.Service          // see [patient.spelledLike]; nil: nobody has asked yet
	entries     []survey.Entry                      // of whomever; sorted by key
	candidates  map[string][]store.Candidate        // for leaders, by the service's key, where they could be read
	leases      map[int64]lease
	etcd        []string         // hosts of etcd
	exposed     []string         // hosts that the password is sent to without TLS
	alone       bool             // everything is on one host
	now         time.Time        // zero: times are not looked at
	probed      bool             // the addresses were connected to
	dead        map[string]error // addresses that do not answer
	unreachable map[string]int   // the findings of these
	heard       map[spot]speech  // what instances speak; nil: they were not asked
	part        string           // says what alone the user may read; "": all
	findings    []Finding
}

// newPatient returns services at which nothing was looked yet, with full as in patient.
func newPatient(services []*survey.Service, full func(key string) string) *patient {
	return &patient{
		services: services, full: full, candidates: make(map[string][]store.Candidate),
		parents: make(map[*survey.Service]*survey.Service), readings: make(Readings), unreachable: make(map[string]int),
	}
}

// read reads the service at a key or, where there is none, those whose keys begin with it.
func (p *patient) read(ctx context.Context, s *store.Store, key string) error {
	if endpoint.CheckKey(key) != nil {
		return p.readUnder(ctx, s, key)
	}
	err := p.readWithCandidates(ctx, s, key)
	if p.token > 0 && err == nil {
		err = p.checkToken(ctx, s, key)
	}
	if p.serve && err == nil {
		if err = s.MayServe(ctx, key); errors.Is(err, store.ErrDenied) {
			p.reportDenied(ctx, s, store.EntriesOf(endpoint.Reader{}, key), "readwrite", "servers of this user cannot register", err)
			err = nil
		}
	}
	if err == nil && len(p.services) > 1 && isNothing(p.services[0]) {
		return p.readUnder(ctx, s, key)
	}
	return err
}

// readUnder reads whatever the user may of the services whose keys begin with a prefix, which may be "".
func (p *patient) readUnder(ctx context.Context, s *store.Store, prefix string) error {
	p.key = ""
	all, candidates := store.PrefixRange(prefix), servicekey.LeaderSegment+"/"+prefix
	read, err := s.List(ctx, all, store.ConfigsUnder(prefix), store.PrefixRange(candidates))
	if errors.Is(err, store.ErrDenied) {
		p.reportDenied(ctx, s, all, "read", "no service can be found", err)
		return nil
	}
	if err != nil {
		return err
	}
	p.entries = survey.InOrder(read.Entries)
	p.services = slices.DeleteFunc(survey.All(p.entries), func(s *survey.Service) bool { return !s.Proven() || !isUnder(s.Key, prefix) })
	p.candidates = store.CandidatesByKey(p.entries)
	if !read.Whole {
		if err := p.readParts(ctx, s, prefix, read.Parts); err != nil {
			return err
		}
	}
	if prefix != "" && len(p.services)+len(p.findings) == 0 {
		p.reportEmpty(prefix)
	}
	return nil
}

// readParts notes what the user may not read, and reads the live configs that were not among the parts.
func (p *patient) readParts(ctx context.Context, s *store.Store, prefix string, parts []store.KeyRange) error {
	p.part = store.PartOnly(s.User, parts)
	for _, service := range p.services {
		service.Closed = !store.Within(parts, store.EntriesOf(endpoint.Reader{}, service.Key))
		if !store.Within(parts, store.ConfigsUnder(prefix)) {
			if err := p.readConfig(ctx, s, service); err != nil {
				return err
			}
		}
	}
	return nil
}

// readConfig reads the live config of a service by itself.
func (p *patient) readConfig(ctx context.Context, s *store.Store, service *survey.Service) (err error) {
	config := store.KeyOnly(service.ConfigKey())
	service.Config, err = s.Get(ctx, config.From)
	if !errors.Is(err, store.ErrDenied) {
		return err
	}
	if serves := s.MayServe(ctx, service.Key); !errors.Is(serves, store.ErrDenied) {
		return serves
	}
	p.reportDenied(ctx, s, config, "read", "clients of this user take no notice of a live policy", err)
	return nil
}

// readWithCandidates is readKey, which also reads the candidates that are there all the while.
func (p *patient) readWithCandidates(ctx context.Context, s *store.Store, key string) error {
	before, err := s.Candidates(ctx, key)
	if err == nil || errors.Is(err, store.ErrDenied) {
		err = p.readKey(ctx, s, key)
	}
	if err != nil || len(before) == 0 {
		return err
	}
	after, err := s.Candidates(ctx, key)
	stood := make(map[store.Candidate]bool, len(before))
	for _, c := range before {
		stood[c] = true
	}
	p.candidates[key] = slices.DeleteFunc(after, func(c store.Candidate) bool { return !stood[c] })
	return err
}

// readKey reads one service with what lies below it and, where that is allowed, those whose keys begin
// with its key.
func (p *patient) readKey(ctx context.Context, s *store.Store, key string) error {
	p.key = key
	entries, _, err := s.Scan(ctx, store.PrefixRange(key))
	if errors.Is(err, store.ErrDenied) {
		entries, err = s.EntriesInParts(ctx, key)
	}
	if errors.Is(err, store.ErrDenied) {
		return p.readSteered(ctx, s, key, err)
	}
	if err != nil {
		return err
	}
	p.entries = entries
	own, others := survey.Of(key, entries)
	p.services = append([]*survey.Service{own}, slices.DeleteFunc(others, func(s *survey.Service) bool { return !s.Proven() })...)
	if own.Namespace, err = s.NamespaceOf(ctx, key); err != nil {
		return err
	}
	if own.Namespace != "" { // the policy by the whole key is another
		stray, err := s.Get(ctx, store.ConfigOf(key).From)
		if err != nil && !errors.Is(err, store.ErrDenied) {
			return err
		}
		if stray != nil {
			p.entries = append(p.entries, *stray)
			slices.SortFunc(p.entries, func(a, b survey.Entry) int { return strings.Compare(a.Key, b.Key) })
		}
	}
	return p.readConfig(ctx, s, own)
}

// readSteered reads the live config alone of a service whose entries are closed to the user, as they are to a role that
// changes live policies.
func (p *patient) readSteered(ctx context.Context, s *store.Store, key string, failed error) error {
	err := s.MaySteer(ctx, key)
	if errors.Is(err, store.ErrDenied) {
		p.reportDenied(ctx, s, store.EntriesOf(endpoint.Reader{}, key), "read", "clients of this user find no instance", failed)
		return nil
	}
	if err != nil {
		return err
	}
	own := &survey.Service{Key: key, Closed: true}
	p.services = []*survey.Service{own}
	return p.readConfig(ctx, s, own)
}

// checkToken compares a token that a store has seen with etcd's revision, and with that of who leads.
func (p *patient) checkToken(ctx context.Context, s *store.Store, key string) error {
	revision, err := s.Revision(ctx, store.ConfigOf(key).From)
	candidates := p.candidates[key]
	switch {
	case err != nil:
	case p.token > revision:
		p.report(KindToken, fmt.Sprintf("a store has seen the token %d, and etcd is at revision %d: it was wiped, or restored from a backup, and gives leaders lower tokens, or the same again", p.token, revision),
			"stop the servers of the service, and restore the backup anew: etcdutl snapshot restore FILE --bump-revision 1000000000 --mark-compacted (etcd 3.6), beside what else was given; where that cannot be, tell each store that lower tokens come", key)
	case len(candidates) > 0 && candidates[0].Created < p.token:
		p.report(KindToken, fmt.Sprintf("a store has seen the token %d, and refuses %.80q, which leads with the token %d: that is back from a backup", p.token, candidates[0].Instance, candidates[0].Created),
			"restart that instance: it stands anew then, with a greater token", candidates[0].Key)
	}
	return err
}

// reportDenied tells of what etcd does not let the user do, of what comes of it, and of the right that the user lacks, as
// etcdctl spells it.
func (p *patient) reportDenied(ctx context.Context, s *store.Store, r store.KeyRange, right, consequence string, err error) {
	var where []string
	from := strings.Trim(r.From, "\x00")
	if from != "" {
		where = []string{from}
	}
	var fix string
	switch {
	case s.User == "":
		fix = "give the credentials of someone who may: --user"
	case from == "":
		fix = "look as someone who may read all keys, or at a KEY that this user may read"
	default:
		option, role := "--prefix ", "ROLE"
		if r == store.KeyOnly(r.From) {
			option = ""
		}
		if roles, err := s.Roles(ctx); err == nil && len(roles) > 0 {
			role = roles[0]
		}
		fix = fmt.Sprintf("etcdctl role grant-permission %s%s %s %s", option, output.Shell(role), right, output.Shell(s.Full(from)))
	}
	p.report(KindPermission, err.Error()+", so "+consequence, fix, where...)
}

// examined returns the services that faults are looked for in: one, where a key was given.
func (p *patient) examined() []*survey.Service {
	if p.key == "" {
		return p.services
	}
	at, found := slices.BinarySearchFunc(p.services, p.key, compareKeys)
	if !found {
		return nil
	}
	return p.services[at : at+1]
}

// addresses returns all that are to be connected to, each once: those of instances, and of entries that only a person can
// read and that no lease tells to be alive.
func (p *patient) addresses() []string {
	set := make(map[string]bool)
	for _, s := range p.examined() {
		for _, i := range s.Instances {
			if !i.Leaving() {
				set[i.Addr] = true
			}
		}
		for _, i := range s.Malformed {
			if addr := addressOf(&i); i.Entry.Lease == 0 && addr != "" {
				set[addr] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(set)), p.isMisleading)
}
