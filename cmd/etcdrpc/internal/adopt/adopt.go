// Package adopt proposes the proto options of services that other programs keep in etcd. It knows nothing of etcd but the
// entries.
package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Adoption holds the proposals for the services below a prefix.
type Adoption struct {
	Proposals []*Proposal
	Others    []*Proposal // for what does not look like a service
}

// Read looks at the entries below a prefix.
func Read(prefix string, entries []survey.Entry, full func(string) string) (*Adoption, error) {
	groups, elsewhere := groupEntries(prefix, entries)
	if len(groups) == 0 {
		return nil, errNothing(prefix, elsewhere, full)
	}
	v := &Adoption{}
	var unlikely []*Proposal
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		p := propose(key, groups[key], full)
		if p.likely() {
			v.Proposals = append(v.Proposals, p)
			continue
		}
		unlikely = append(unlikely, p)
	}
	if len(v.Proposals) == 0 { // then PREFIX means these
		v.Proposals, unlikely = unlikely, nil
	}
	v.Others = unlikely
	v.examine(full)
	return v, nil
}

// errNothing returns the error for a prefix without a service. elsewhere is what groupEntries returns.
func errNothing(prefix string, elsewhere []string, full func(string) string) error {
	if len(elsewhere) > 0 && elsewhere[len(elsewhere)-1] != "" {
		key := elsewhere[len(elsewhere)-1]
		return fmt.Errorf("no service is below %q: the keys that begin so are entries of %q: etcdrpc adopt %s", full(prefix), full(key), output.Shell(key))
	}
	if len(elsewhere) > 0 {
		return fmt.Errorf("no service is below %q: the keys that begin so have no slash, so they are not entries of a service", full(prefix))
	}
	return fmt.Errorf("nothing is below %q: list all keys with etcdctl get --prefix --keys-only '', and check --namespace", full(prefix))
}

// likely reports whether the entries are those of a service rather than settings, which have no lease.
func (p *Proposal) likely() bool {
	return p.service().Evident() || slices.ContainsFunc(p.Entries, func(i survey.Instance) bool { return i.Entry.Lease != 0 })
}

// service returns the service as doctor's checks take it.
func (p *Proposal) service() *survey.Service {
	s := &survey.Service{Key: p.Key, HomeMade: p.homeMade}
	for _, i := range p.Entries {
		s.Take(i)
	}
	return s
}

// examine adds the findings to the proposals: those of each service, and those of services side by side.
func (v *Adoption) examine(full func(string) string) {
	var services []*survey.Service
	for _, p := range v.Proposals {
		services = append(services, p.service())
	}
	v.authorize()
	checkNeighbours, readings := doctor.Neighbours(services, full), make(doctor.Readings)
	for i, p := range v.Proposals {
		p.Findings = slices.Concat(checkNeighbours(services[i]), checkListers(services[i], services[i+1:], readings, full))
		p.examine()
	}
}

// authorize proposes an authority for services whose keys give no TLS name, or that of another service.
func (v *Adoption) authorize() {
	taken := make(map[string]bool)
	var without []*Proposal
	for _, p := range v.Proposals {
		if name := servicekey.TLSName(p.Key, ""); name == "" || taken[name] {
			without = append(without, p)
		} else {
			taken[name] = true
		}
	}
	numbers := make(map[string]int)
	for _, p := range without {
		p.Authority = suggestAuthority(p.Key, taken, numbers)
	}
}

// Unreadable reports whether there is a service of which clients would read nothing.
func (v *Adoption) Unreadable() bool {
	return slices.ContainsFunc(v.Proposals, func(p *Proposal) bool { return p.Option() == "" })
}

// groupEntries groups the entries of a prefix by service. elsewhere holds the keys of services that do not begin with the
// prefix, though some of their entries do.
func groupEntries(prefix string, entries []survey.Entry) (groups map[string][]survey.Entry, elsewhere []string) {
	groups = make(map[string][]survey.Entry)
	prefix = strings.TrimSuffix(prefix, "/")
	others := make(map[string]bool)
	owner := survey.Owners(entries)
	for _, e := range entries {
		if _, ok := survey.ConfigOwner(e.Key); ok || survey.IsCandidate(e.Key) {
			continue // this project's own
		}
		key := owner(e)
		if stem, ok := survey.StrayStem(e); ok && key == survey.OwnerOf(e) && (len(key) < len(prefix) || key == "") {
			key = stem
		}
		if key == "" || !strings.HasPrefix(key, prefix) {
			others[key] = true
			continue
		}
		groups[key] = append(groups[key], e)
	}
	return groups, slices.Sorted(maps.Keys(others))
}
