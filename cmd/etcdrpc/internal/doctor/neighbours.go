package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/oldreader"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// checkTLSNames finds the services whose servers TLS cannot tell apart. It goes by their keys, for etcd does not hold
// the authority that a proto sets.
func (p *patient) checkTLSNames() {
	keys := make(map[string][]string)
	for _, s := range p.services {
		if name := servicekey.TLSName(s.Key, ""); name != "" && s.InUse() {
			keys[name] = append(keys[name], s.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if len(keys[name]) < 2 {
			continue
		}
		var quoted, where []string
		for _, key := range slices.Sorted(slices.Values(keys[name])) {
			quoted = append(quoted, fmt.Sprintf("%q", key))
			where = append(where, key+"/")
		}
		p.report(KindTLSName, fmt.Sprintf("the services %s have the TLS name %s by default, so the certificate of one is good for the others, "+
			"and whoever may write the keys of one can send its calls to the servers of another", strings.Join(quoted, ", "), name),
			"set authority in the proto of all but one (docs/security.md), or rename them; etcd does not say what authority a proto sets: where it is done, --skip "+string(KindTLSName), where...)
	}
}

func compareKeys(s *survey.Service, key string) int { return strings.Compare(s.Key, key) }

// following returns the services whose keys begin with that of s, without s. The services are sorted by key, so those
// stand together.
func (p *patient) following(s *survey.Service) []*survey.Service {
	from, found := slices.BinarySearchFunc(p.services, s.Key, compareKeys)
	if found {
		from++
	}
	to := from
	for to < len(p.services) && strings.HasPrefix(p.services[to].Key, s.Key) {
		to++
	}
	return p.services[from:to]
}

// Neighbours returns the check for services that get in the way of another by their keys, and for entries that get in the way of
// the other readers of a service, for services sorted by key.
func Neighbours(services []*survey.Service, full func(key string) string) func(*survey.Service) []Finding {
	p := newPatient(services, full)
	return func(s *survey.Service) []Finding {
		p.findings = nil
		p.checkNeighbours(s)
		p.checkReaders(s)
		return p.findings
	}
}

// checkNeighbours finds the services that get in the way of this one by their keys. A service far below this one is told
// of where the nearest above it is looked at, and of those beside it that begin like it the first are: each of many may begin like
// all others.
func (p *patient) checkNeighbours(s *survey.Service) {
	suffixed, mixesUp, beside := s.Uses(endpoint.LeaseSuffix), p.readings.MixesUp(s), 0
	for _, o := range p.following(s) {
		below, nested := strings.CutPrefix(o.Key[len(s.Key):], "/")
		if !o.InUse() || nested && p.parent(o) != s || !nested && beside == output.MaxWhere {
			continue
		}
		switch {
		case nested && (below == "latest" || survey.IsVersion(below)):
			p.report(KindNestedKey, fmt.Sprintf("%s seems to be the version %q of %s: clients of one key do not find the instances of the other, and who lists the latter by its prefix finds both", o.Key, below, s.Key),
				fmt.Sprintf("register all versions at %s, with runtime.WithVersion(%q), and at the other key too as long as callers go by it (docs/migration.md); a split divides the calls", s.Key, below), s.Key+"/", o.Key+"/")
		case nested:
			p.report(KindNestedKey, fmt.Sprintf("%s lies below %s: who lists the latter by its prefix, as other registries' clients do, finds the instances of both", o.Key, s.Key),
				"give one of them a key that is not below the other's; the plugin refuses to generate both", s.Key+"/", o.Key+"/")
		case suffixed && servicekey.OverlapOf(s.Key, o.Key, true) == servicekey.Continued:
			p.reportContinued(s, o)
			beside++
		default:
			if why := mixesUp(o); why != "" {
				p.report(KindNeighbour, fmt.Sprintf("%s begins like %s: %s", o.Key, s.Key, why),
					fmt.Sprintf("rename one of them so that neither key begins with the other; until then write nothing under %s that the readers of %s cannot bear (docs/layouts.md)", o.Key, s.Key), s.Key, o.Key)
				beside++
			}
		}
	}
}

// parent returns the nearest service that a service lies below, nil if there is none. It is asked for once by each that the
// service lies below.
func (p *patient) parent(s *survey.Service) *survey.Service {
	parent, known := p.parents[s]
	if !known {
		parent = p.find(servicekey.Outer(s.Key, servicekey.Nested, func(key string) bool { return p.find(key) != nil }))
		p.parents[s] = parent
	}
	return parent
}

// reportContinued tells of a service o whose key continues, with a digit, the key of a service s in the lease suffix layout,
// as the lease ids of s's entries do.
func (p *patient) reportContinued(s, o *survey.Service) {
	problem := fmt.Sprintf("the key %q continues %q with a digit, as the lease ids of its entries do: "+
		"the range that the servers and callers of the latter need takes in the former, so they may write and read it", o.Key, s.Key)
	fix := fmt.Sprintf("rename one of them; until then leave %q to %q out of what the role of the servers of %q may write (docs/security.md)",
		p.full(o.Key)+"/", p.full(o.Key)+"0", s.Key)
	if o.Uses(endpoint.LeaseSuffix) {
		problem += ", and who may write the former can put entries of the latter"
		fix = "rename one of them: no range can tell the lease ids of the two apart"
	}
	p.report(KindNeighbour, problem, fix, s.Key, o.Key)
}

// Readings remembers what other frameworks' readers do over the entries of services: the key of one may begin like many.
type Readings map[reading]string

type reading struct {
	reader string
	of     *survey.Service
}

// of returns what a reader does over the entries of a service, "" if it bears them.
func (m Readings) of(r oldreader.Reader, s *survey.Service) string {
	at := reading{r.Name, s}
	if _, known := m[at]; !known {
		m[at] = ""
		if does, _ := overEntries(r, slices.Concat(s.Instances, s.Malformed)); len(does) > 0 {
			m[at] = does[0]
		}
	}
	return m[at]
}

// MixesUp returns a function that says why the readers of a service, who list by its bare key, mix another one up with it; ""
// where they do not. Readers of the layouts that are not named list by the key with a slash.
func (m Readings) MixesUp(s *survey.Service) func(o *survey.Service) string {
	suffixed := s.Uses(endpoint.LeaseSuffix)
	readers := slices.DeleteFunc(ReadersOf(s), func(r oldreader.Reader) bool { return !r.Bare })
	return func(o *survey.Service) string {
		if rest, ok := strings.CutPrefix(o.Key, s.Key); !ok || strings.HasPrefix(rest, "/") {
			return ""
		}
		if suffixed {
			return "gateways that list the lease suffix by the bare key take its instances for their own"
		}
		for _, r := range readers {
			if does := m.of(r, o); does != "" {
				return fmt.Sprintf("%s reader lists by the bare key, and %s", r.Name, does)
			}
		}
		return ""
	}
}
