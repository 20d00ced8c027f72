package doctor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// patient is what doctor looks at.
type patient struct {
	key      string            // "" all
	services []*survey.Service // those looked at, and others; sorted by key
	entries  []survey.Entry    // among which policies may be that no client reads
	leases   map[int64]survey.LeaseTime
	stale    map[int64]bool             // leases that nobody renews
	renewed  map[int64]bool             // leases that were renewed meanwhile, of those that were looked at twice
	behind   map[int64]bool             // leases that missed a renewal, of entries in whose place a newer one stands
	probed   bool                       // the addresses were connected to
	dead     map[string]error           // addresses that do not answer
	heard    map[spot]speech            // what instances speak; nil: they were not asked
	etcd     []string                   // hosts of etcd
	alone    bool                       // everything is on one host
	inUse    map[string]*survey.Service // by key, those with entries; nil until they are asked for
	findings []Finding                  // of reading
	now      time.Time                  // zero: times are not looked at
	// candidates for leaders, by the service's key, where they could be read
	candidates map[string][]store.Candidate
	part       string   // says what alone the user may read; "": all
	exposed    []string // hosts that the password is sent to without TLS
	full       func(key string) string
}

// readAll reads whatever the user may of the services whose keys begin with a prefix.
func (p *patient) readAll(ctx context.Context, s *store.Store, prefix string) error {
	all, candidates := store.PrefixRange(prefix), servicekey.LeaderSegment+"/"+prefix
	read, err := s.List(ctx, all, store.ConfigsUnder(prefix), store.PrefixRange(candidates))
	if errors.Is(err, store.ErrDenied) {
		p.findings = append(p.findings, denied(ctx, s, all, rightRead, "no service can be found", err))
		return nil
	}
	if err != nil {
		return err
	}
	p.entries = survey.InOrder(read.Entries)
	p.services = slices.DeleteFunc(survey.All(p.entries), func(s *survey.Service) bool { return !s.Proven() || !isUnder(s.Key, prefix) })
	var standing []survey.Entry
	for _, e := range p.entries {
		if strings.HasPrefix(e.Key, candidates) {
			standing = append(standing, e)
		}
	}
	for _, service := range p.services {
		p.candidates[service.Key] = store.CandidatesAmong(service.Key, standing)
	}
	if read.Whole {
		return nil
	}
	p.part = store.PartOnly(s.User, read.Parts)
	unread := !store.Within(read.Parts, store.ConfigsUnder(prefix))
	for _, service := range p.services {
		service.Closed = !store.Within(read.Parts, store.EntriesOf(endpoint.Reader{}, service.Key))
		if unread {
			if err := p.readConfig(ctx, s, service); err != nil {
				return err
			}
		}
	}
	return nil
}

// readConfig reads the live config of a service by itself.
func (p *patient) readConfig(ctx context.Context, s *store.Store, service *survey.Service) (err error) {
	config := configOf(service)
	service.Config, err = s.Get(ctx, config.From)
	if !errors.Is(err, store.ErrDenied) {
		return err
	}
	if serves := s.MayServe(ctx, service.Key); !errors.Is(serves, store.ErrDenied) {
		return serves
	}
	p.findings = append(p.findings, denied(ctx, s, config, rightRead, "clients of this user take no notice of a live policy", err))
	return nil
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
	own, others := survey.Of(key, entries)
	p.services = append([]*survey.Service{own}, slices.DeleteFunc(others, func(s *survey.Service) bool { return !s.Proven() })...)
	if own.Namespace, err = s.NamespaceOf(ctx, key); err != nil {
		return err
	}
	if own.Namespace != "" { // a policy by the whole key is read by nobody
		stray, err := s.Get(ctx, store.ConfigOf(key).From)
		if err != nil && !errors.Is(err, store.ErrDenied) {
			return err
		}
		if stray != nil {
			p.entries = append(p.entries, *stray)
		}
	}
	return p.readConfig(ctx, s, own)
}

// readSteered reads the live config alone of a service whose entries are closed to the user, as they are to a role that
// changes live policies.
func (p *patient) readSteered(ctx context.Context, s *store.Store, key string, failed error) error {
	err := s.MaySteer(ctx, key)
	if errors.Is(err, store.ErrDenied) {
		p.findings = append(p.findings, denied(ctx, s, store.EntriesOf(endpoint.Reader{}, key), rightRead, "clients of this user find no instance", failed))
		return nil
	}
	if err != nil {
		return err
	}
	own := &survey.Service{Key: key, Closed: true}
	p.services = []*survey.Service{own}
	return p.readConfig(ctx, s, own)
}

func (p *patient) askToServe(ctx context.Context, s *store.Store, key string) error {
	err := s.MayServe(ctx, key)
	if errors.Is(err, store.ErrDenied) {
		p.findings = append(p.findings, denied(ctx, s, store.EntriesOf(endpoint.Reader{}, key), rightReadWrite, "servers of this user cannot register", err))
		return nil
	}
	return err
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
				set[i.Addr] = !p.isMisleading(i.Addr)
			}
		}
		for _, i := range s.Malformed {
			if addr := addressOf(&i); i.Entry.Lease == 0 && addr != "" {
				set[addr] = !p.isMisleading(addr)
			}
		}
	}
	maps.DeleteFunc(set, func(_ string, dial bool) bool { return !dial })
	return slices.Sorted(maps.Keys(set))
}
