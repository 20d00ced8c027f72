package adopt

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// The kinds of findings that only adopt has. Neighbours, nested keys, mixed layouts and the like are doctor's kinds, too.
const (
	kindAuthority  doctor.Kind = "authority"
	kindAddresses  doctor.Kind = "addresses"
	kindChange     doctor.Kind = "change"
	kindGoFrameKey doctor.Kind = "go-frame-key"
	kindInactive   doctor.Kind = "inactive"
	kindInstance   doctor.Kind = "instance"
	kindLost       doctor.Kind = "lost"
	kindOptional   doctor.Kind = "optional"
	kindReadOnly   doctor.Kind = "read-only"
	kindUnread     doctor.Kind = "unread"
	kindVersionKey doctor.Kind = "version-in-key"
	kindWeight     doctor.Kind = "weight"
)

// examine returns what would be lost or change.
func (p *Proposal) examine() []doctor.Finding {
	return slices.Concat(p.keyFindings(), p.layoutFindings(), p.versionFindings(), p.rivalFindings(), p.downFindings(), p.localFindings(),
		p.weightFindings(), p.changeFindings(), p.instanceFindings(), p.leaseFindings(), p.unreadFindings())
}

// matching returns the entries that fit.
func (p *Proposal) matching(fits func(i survey.Instance) bool) (found []survey.Instance) {
	for _, i := range p.Entries {
		if fits(i) {
			found = append(found, i)
		}
	}
	return found
}

// where returns the first few keys of entries, as etcd has them.
func (p *Proposal) where(entries []survey.Instance) (keys []string) {
	for _, i := range output.FirstOf(entries) {
		keys = append(keys, p.full(i.Entry.Key))
	}
	return keys
}

func entriesHave(n int) string { return output.CountedIs(n, "entry", "has", "have") }

func (p *Proposal) keyFindings() (all []doctor.Finding) {
	if err := p.keyErr(); err != nil {
		return []doctor.Finding{{Kind: doctor.KindBadKey, Where: []string{p.full(p.Key)}, Problem: err.Error(), Fix: "no option can name this key, and no client can find it: have the servers use another"}}
	}
	if p.Authority != "" {
		problem := "the key gives no host that TLS can check"
		if name := servicekey.TLSName(p.Key, ""); name != "" {
			problem = fmt.Sprintf("the key gives the TLS name %s, which is that of another service here", name)
		}
		all = append(all, doctor.Finding{Kind: kindAuthority, Where: []string{p.full(p.Key)}, Problem: problem,
			Fix: fmt.Sprintf("replace %s by the name in the servers' certificates", p.Authority)})
	}
	if p.Layout == endpoint.GoFrame && !survey.GoFrameKey(p.Key) {
		all = append(all, doctor.Finding{Kind: kindGoFrameKey, Where: []string{p.full(p.Key)}, Problem: "the key lacks the five parts /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, which GoFrame's own readers look for",
			Fix: "if GoFrame's readers find the service all the same, keep the layout; else these are not GoFrame's entries: find out what writes them"})
	}
	return all
}

func (p *Proposal) layoutFindings() (all []doctor.Finding) {
	if counts := p.layouts(); len(counts) > 1 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%s (%d)", name, counts[name]))
		}
		all = append(all, doctor.Finding{Kind: doctor.KindMixedLayouts, Where: nil, Problem: fmt.Sprintf("the entries are in %d layouts: %s; clients read them all, and servers write the one in the option, which is that of most entries", len(counts), strings.Join(parts, ", ")),
			Fix: "if old callers read another one, put that into the option, or have servers write both by runtime.WithLayouts"})
	}
	switch {
	case p.Layout == endpoint.Dubbo:
		all = append(all, doctor.Finding{Kind: kindReadOnly, Where: nil, Problem: "dubbo's entries are read but not written: servers write the default layout, which dubbo's readers do not know",
			Fix: "move the callers first; dubbo's callers need dubbo's servers"})
	case p.optional():
		all = append(all, doctor.Finding{Kind: kindOptional, Where: nil, Problem: "clients read these entries without json_layout, too",
			Fix: "leave json_layout out if no old caller has to read what new servers write: the default layout has room for metadata"})
	}
	return all
}

// optional reports whether clients read all entries of home-made JSON the same without the json_layout. An entry that
// they would take for GoFrame's, with the address in its key alone, does not count.
func (p *Proposal) optional() bool {
	for _, i := range p.Entries {
		if !p.IsMapped() || i.Layout != p.Layout {
			continue
		}
		o := survey.Decode(survey.AnyLayout, p.Key, i.Entry)
		if o.Err != nil || o.Layout == endpoint.GoFrame || !o.Equal(i.Endpoint) {
			return false
		}
	}
	return p.IsMapped()
}

var version = regexp.MustCompile(`^(v[0-9]+([._-][0-9A-Za-z]+)*|[0-9]+(\.[0-9]+)+)$`)

// versionFindings reports a version in the key.
func (p *Proposal) versionFindings() []doctor.Finding {
	slash := strings.LastIndexByte(p.Key, '/')
	if slash <= 0 {
		return nil
	}
	parent, last := p.Key[:slash], p.Key[slash+1:]
	says := func(i survey.Instance) bool { return i.Err == nil && i.Version == last && last != "" }
	if !version.MatchString(last) && !slices.ContainsFunc(p.Entries, says) {
		return nil
	}
	if p.Layout == endpoint.GoFrame && survey.GoFrameKey(p.Key) {
		return []doctor.Finding{{Kind: kindVersionKey, Where: []string{p.full(p.Key)}, Problem: fmt.Sprintf("the version %q is in the key, as GoFrame has it, so a client finds only the servers of that version", last),
			Fix: "define a service in the proto for each version that is called"}}
	}
	return []doctor.Finding{{Kind: kindVersionKey, Where: []string{p.full(p.Key)},
		Problem: fmt.Sprintf("the version %q is in the key: a client of %q finds only that version, and old callers that list %q find all versions", last, p.Key, parent+"/"),
		Fix: fmt.Sprintf("define a service in the proto for each version that is called; or give the servers the key %q and runtime.WithVersion(%q): "+
			"a client of that key finds every version that is registered so, but none that is registered the old way", parent, last)}}
}

// checkListers reports services whose entries the readers of this one find as well, since those list by its bare key,
// and accept. What they do not accept, checkNeighbours reports.
func checkListers(s *survey.Service, services []*survey.Service, full func(string) string) (all []doctor.Finding) {
	var reader string
	switch {
	case s.Uses(endpoint.Kratos):
		reader = "kratos'"
	case s.Uses(endpoint.GoFrame):
		reader = "GoFrame's"
	default:
		return nil
	}
	for _, o := range services {
		if o == s || !strings.HasPrefix(o.Key, s.Key) || strings.HasPrefix(o.Key, s.Key+"/") || doctor.MixesUp(s, o) != "" {
			continue
		}
		all = append(all, doctor.Finding{Kind: doctor.KindNeighbour, Where: []string{full(s.Key), full(o.Key)},
			Problem: fmt.Sprintf("%s begins like %s: %s reader lists by the bare key, so it finds the entries of both, which it accepts as they are", o.Key, s.Key, reader),
			Fix:     fmt.Sprintf("as long as it reads %s, have the servers of %s write nothing that it does not accept (docs/layouts.md)", s.Key, o.Key)})
	}
	return all
}

func (p *Proposal) rivalFindings() []doctor.Finding {
	fields := p.homeMade.Fields
	if !p.IsMapped() || len(p.homeMade.Rivals) == 0 {
		return nil
	}
	taken := fmt.Sprintf("%q", fields.Addr)
	if fields.Addr == "" {
		taken = fmt.Sprintf("%q and %q", fields.Host, fields.Port)
	}
	return []doctor.Finding{{Kind: kindAddresses, Where: nil, Problem: fmt.Sprintf("other fields hold addresses, too: %s; clients call the one in %s", output.Quoted(p.homeMade.Rivals), taken),
		Fix: "if gRPC is served at another, name that field in json_layout"}}
}

// isWeight reports whether a value is in the place of the weight.
func (p *Proposal) isWeight(l survey.Leaf) bool {
	if name := p.homeMade.Fields.Weight; p.IsMapped() && name != "" {
		return l.Path == survey.Step+name
	}
	return strings.EqualFold(l.Name(), "weight")
}

// weightFindings reports weights that clients ignore.
func (p *Proposal) weightFindings() []doctor.Finding {
	sample := ""
	found := p.matching(func(i survey.Instance) bool {
		if i.Err != nil || i.Weight != 0 || !survey.IsObject(i.Entry.Value) {
			return false
		}
		leaves := survey.LeavesOf(i.Entry.Value)
		at := slices.IndexFunc(leaves, func(l survey.Leaf) bool { return p.isWeight(l) && rawjson.Text(l.Value) != "0" })
		if at >= 0 && sample == "" {
			sample = leaves[at].Sample()
		}
		return at >= 0
	})
	if len(found) == 0 {
		return nil
	}
	return []doctor.Finding{{Kind: kindWeight, Where: p.where(found), Problem: fmt.Sprintf("%s a weight that is not the digits of a whole number up to 4294967295, such as %s: clients ignore it", entriesHave(len(found)), sample),
		Fix: "give servers a whole number by runtime.WithWeight; multiply fractions by the same number everywhere"}}
}

// instanceFindings reports entries that servers of this project would write under another key.
func (p *Proposal) instanceFindings() (all []doctor.Finding) {
	if p.Layout.IsZero() || p.Layout == endpoint.Dubbo {
		return nil
	}
	own := func(i survey.Instance) bool { return i.Err == nil && i.Layout == p.Layout }
	written := func(i survey.Instance) string { return p.Layout.Key(p.Key, i.Endpoint, i.Entry.Lease) }
	kept := func(i survey.Instance) bool { return written(i) == i.Entry.Key }
	named := p.matching(func(i survey.Instance) bool {
		byAddr := i
		byAddr.Instance = i.Addr
		return own(i) && kept(i) && !kept(byAddr)
	})
	if len(named) > 0 {
		all = append(all, doctor.Finding{Kind: kindInstance, Where: p.where(named), Problem: fmt.Sprintf("%s a key that does not end in the address", entriesHave(len(named))),
			Fix: "servers of this project take their address as the instance id; runtime.WithInstance gives them another"})
	}
	moved := p.matching(func(i survey.Instance) bool { return own(i) && !kept(i) })
	if len(moved) > 0 {
		all = append(all, doctor.Finding{Kind: kindInstance, Where: p.where(moved), Problem: fmt.Sprintf("%s a key that a server of this project would not write: for the first it would write one that ends in %q",
			entriesHave(len(moved)), strings.TrimPrefix(written(moved[0]), p.Key+"/")),
			Fix: "make sure that old callers do not go by what the key ends in"})
	}
	return all
}

func (p *Proposal) leaseFindings() []doctor.Finding {
	found := p.matching(func(i survey.Instance) bool { return i.Entry.Lease == 0 })
	if len(found) == 0 {
		return nil
	}
	where := p.where(found)
	return []doctor.Finding{{Kind: doctor.KindNoLease, Where: where, Problem: entriesHave(len(found)) + " no lease, and would stay after the move",
		Fix: fmt.Sprintf("delete each when its server is replaced: etcdctl del %s", output.Shell(where[0]))}}
}

// unreadFindings reports each entry that no client would read, and why.
func (p *Proposal) unreadFindings() (all []doctor.Finding) {
	for _, i := range p.Entries {
		if i.Err != nil {
			all = append(all, doctor.Finding{Kind: kindUnread, Where: []string{p.full(i.Entry.Key)}, Problem: "clients would not read the entry: " + i.Err.Error(),
				Fix: "replace its server first, or have it write what clients read (docs/layouts.md)"})
		}
	}
	return all
}
