package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// What a service meets that moves in. Neighbours, nested keys and mixed layouts are doctor's kinds, too.
const (
	kindAuthority  kind = "authority"
	kindAddresses  kind = "addresses"
	kindChange     kind = "change"
	kindGoFrameKey kind = "go-frame-key"
	kindInstance   kind = "instance"
	kindLenient    kind = "optional"
	kindLost       kind = "lost"
	kindReadOnly   kind = "read-only"
	kindUnread     kind = "unread"
	kindVersionKey kind = "version-in-key"
	kindWeight     kind = "weight"
)

// maxWhere bounds the keys that are shown of many that have the same.
const maxWhere = 3

// examine notes what would be lost or change. full is a key as etcd has it.
func (p *proposal) examine(full func(string) string) []finding {
	var all []finding
	for _, look := range []func(func(string) string) []finding{
		p.keyFindings, p.layoutFindings, p.versionFindings, p.rivalFindings, p.weightFindings, p.changeFindings,
		p.instanceFindings, p.leaseFindings, p.unread,
	} {
		all = append(all, look(full)...)
	}
	return all
}

// matching returns the keys of the entries that fit, as etcd has them.
func (p *proposal) matching(full func(string) string, fits func(i *instance) bool) (keys []string) {
	for n := range p.entries {
		if fits(&p.entries[n]) {
			keys = append(keys, full(p.entries[n].entry.key))
		}
	}
	return keys
}

func firstOf(keys []string) []string { return keys[:min(len(keys), maxWhere)] }

func entriesHave(n int) string {
	if n == 1 {
		return "1 entry has"
	}
	return fmt.Sprintf("%d entries have", n)
}

func (p *proposal) keyFindings(full func(string) string) (all []finding) {
	if err := p.keyErr(); err != nil {
		return []finding{{kindBadKey, []string{full(p.key)}, err.Error(), "no option can name this key, and no client find it: have the servers use another"}}
	}
	if p.authority != "" {
		problem := "the key gives no host that TLS could check"
		if name := servicekey.TLSName(p.key, ""); name != "" {
			problem = fmt.Sprintf("the key gives the TLS name %s, as that of another service here does", name)
		}
		all = append(all, finding{kindAuthority, []string{full(p.key)}, problem,
			fmt.Sprintf("put the name that the servers' certificates have in place of %s", p.authority)})
	}
	if p.layout == endpoint.GoFrame && !goFrameKey(p.key) {
		all = append(all, finding{kindGoFrameKey, []string{full(p.key)}, "the key lacks the five parts /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, by which GoFrame's own readers look",
			"if GoFrame's readers find the service all the same, keep the layout; else these are entries of somebody else: look at what writes them"})
	}
	return all
}

func (p *proposal) layoutFindings(full func(string) string) (all []finding) {
	if counts := p.layouts(); len(counts) > 1 {
		var parts []string
		for _, name := range sortedKeys(counts) {
			parts = append(parts, fmt.Sprintf("%s (%d)", name, counts[name]))
		}
		all = append(all, finding{kindMixedLayouts, nil, fmt.Sprintf("the entries are in %d layouts: %s; clients read them all, and the option names that of the most, which servers write", len(counts), strings.Join(parts, ", ")),
			"if old callers read another of them, name that, or have servers write both by runtime.WithLayouts"})
	}
	switch {
	case p.layout == endpoint.Dubbo:
		all = append(all, finding{kindReadOnly, nil, "dubbo's entries are read, and not written: servers write the default layout, which dubbo's readers do not know",
			"move the callers first; dubbo's callers need dubbo's servers"})
	case p.lenient():
		all = append(all, finding{kindLenient, nil, "clients read these entries without json_layout, too",
			"leave json_layout out where no old caller is to read what new servers write: the default layout has room for metadata, too"})
	}
	return all
}

// lenient reports whether clients read all entries of home-made JSON the same without being told of its fields. Where
// the address is only in the key, others would not.
func (p *proposal) lenient() bool {
	for _, i := range p.entries {
		if !p.homeMade() || i.layout != p.layout {
			continue
		}
		o := decode(anyLayout, p.key, i.entry)
		if o.err != nil || o.layout == endpoint.GoFrame || o.Addr != i.Addr || o.Version != i.Version || o.Zone != i.Zone || o.Weight != i.Weight {
			return false
		}
	}
	return p.homeMade()
}

var version = regexp.MustCompile(`^(v[0-9]+([._-][0-9A-Za-z]+)*|[0-9]+(\.[0-9]+)+)$`)

// versionFindings tells of a version that stands in the key.
func (p *proposal) versionFindings(full func(string) string) []finding {
	slash := strings.LastIndexByte(p.key, '/')
	if slash <= 0 {
		return nil
	}
	parent, last := p.key[:slash], p.key[slash+1:]
	says := func(i instance) bool { return i.err == nil && i.Version == last && last != "" }
	if !version.MatchString(last) && !slices.ContainsFunc(p.entries, says) {
		return nil
	}
	if p.layout == endpoint.GoFrame && goFrameKey(p.key) {
		return []finding{{kindVersionKey, []string{full(p.key)}, fmt.Sprintf("the version %q stands in the key, as GoFrame has it, so a client finds the servers of that version alone", last),
			"have a service of the proto for each version that is called"}}
	}
	return []finding{{kindVersionKey, []string{full(p.key)},
		fmt.Sprintf("the version %q stands in the key: a client of %q finds that version alone, and old callers who list %q find all of them", last, p.key, parent+"/"),
		fmt.Sprintf("have a service of the proto for each version that is called; or give the servers the key %q and runtime.WithVersion(%q): "+
			"such a client finds every version that is registered so, but none that is registered the old way", parent, last)}}
}

// checkListers finds the services that the readers of this one meet, who list by its bare key, where they bear what is
// there today. Where they do not, checkNeighbours does.
func (p *patient) checkListers(s *service) (all []finding) {
	var reader string
	switch {
	case s.uses(endpoint.Kratos):
		reader = "kratos'"
	case s.uses(endpoint.GoFrame):
		reader = "GoFrame's"
	default:
		return nil
	}
	for _, o := range p.services {
		if o == s || !strings.HasPrefix(o.key, s.key) || strings.HasPrefix(o.key, s.key+"/") || mixesUp(s, o) != "" {
			continue
		}
		all = append(all, finding{kindNeighbour, []string{p.full(s.key), p.full(o.key)},
			fmt.Sprintf("%s begins like %s: %s reader lists by the bare key, so it meets the entries of both, which it bears as they are", o.key, s.key, reader),
			fmt.Sprintf("as long as it reads %s, have the servers of %s write nothing that it cannot bear (docs/layouts.md)", s.key, o.key)})
	}
	return all
}

func (p *proposal) rivalFindings(func(string) string) []finding {
	if !p.homeMade() || len(p.rivals) == 0 {
		return nil
	}
	taken := fmt.Sprintf("%q", p.fields.Addr)
	if p.fields.Addr == "" {
		taken = fmt.Sprintf("%q and %q", p.fields.Host, p.fields.Port)
	}
	return []finding{{kindAddresses, nil, fmt.Sprintf("other fields hold addresses, too: %s; clients call that in %s", quoted(p.rivals), taken),
		"if gRPC is served at another, name that field in json_layout"}}
}

// quoted lists a few of the names.
func quoted(names []string) string {
	var all []string
	for _, name := range firstOf(names) {
		all = append(all, fmt.Sprintf("%q", name))
	}
	if more := len(names) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

// isWeight reports whether a value is where a weight is.
func (p *proposal) isWeight(l leaf) bool {
	if p.homeMade() && p.fields.Weight != "" {
		return l.path == step+p.fields.Weight
	}
	return strings.EqualFold(l.name(), "weight")
}

// weightFindings tells of weights that clients do not take for one.
func (p *proposal) weightFindings(full func(string) string) []finding {
	sample := ""
	where := p.matching(full, func(i *instance) bool {
		if i.err != nil || i.Weight != 0 || !isObject(i.entry.value) {
			return false
		}
		leaves := leavesOf(i.entry.value)
		at := slices.IndexFunc(leaves, func(l leaf) bool { return p.isWeight(l) && rawjson.Text(l.value) != "0" })
		if at >= 0 && sample == "" {
			sample = leaves[at].sample()
		}
		return at >= 0
	})
	if len(where) == 0 {
		return nil
	}
	return []finding{{kindWeight, firstOf(where), fmt.Sprintf("%s a weight that is no whole number from 0 to 4294967295, such as %s: clients take it for none", entriesHave(len(where)), sample),
		"give servers a whole number by runtime.WithWeight; multiply fractions by one number for all"}}
}

// instanceFindings tells of entries that servers of this project would put elsewhere.
func (p *proposal) instanceFindings(full func(string) string) (all []finding) {
	if p.layout.IsZero() || p.layout == endpoint.Dubbo {
		return nil
	}
	own := func(i *instance) bool { return i.err == nil && i.layout == p.layout }
	kept := func(i *instance) bool { return p.layout.Key(p.key, i.Endpoint, i.entry.lease) == i.entry.key }
	named := p.matching(full, func(i *instance) bool {
		byAddr := i.Endpoint
		byAddr.Instance = i.Addr
		return own(i) && kept(i) && p.layout.Key(p.key, byAddr, i.entry.lease) != i.entry.key
	})
	if len(named) > 0 {
		all = append(all, finding{kindInstance, firstOf(named), fmt.Sprintf("%s a key that ends in something else than the address", entriesHave(len(named))),
			"servers of this project name themselves by their address; runtime.WithInstance gives them such a name"})
	}
	moved := p.matching(full, func(i *instance) bool { return own(i) && !kept(i) })
	if len(moved) > 0 {
		all = append(all, finding{kindInstance, firstOf(moved), fmt.Sprintf("%s a key that a server of this project would not write: for the first of them that is one that ends in %q",
			entriesHave(len(moved)), p.wouldEnd(full, moved[0])),
			"see that old callers do not go by what the key ends in"})
	}
	return all
}

// wouldEnd is what the key of an entry would end in.
func (p *proposal) wouldEnd(full func(string) string, key string) string {
	at := slices.IndexFunc(p.entries, func(i instance) bool { return full(i.entry.key) == key })
	i := p.entries[at]
	return strings.TrimPrefix(p.layout.Key(p.key, i.Endpoint, i.entry.lease), p.key+"/")
}

func (p *proposal) leaseFindings(full func(string) string) []finding {
	where := p.matching(full, func(i *instance) bool { return i.entry.lease == 0 })
	if len(where) == 0 {
		return nil
	}
	return []finding{{kindNoLease, firstOf(where), entriesHave(len(where)) + " no lease, and would stay when the move is over",
		fmt.Sprintf("delete each when its server is replaced: etcdctl del %s", shell(where[0]))}}
}

// unread tells of each entry that no client would read, what it lacks.
func (p *proposal) unread(full func(string) string) (all []finding) {
	for _, i := range p.entries {
		if i.err != nil {
			all = append(all, finding{kindUnread, []string{full(i.entry.key)}, "clients would not read the entry: " + i.err.Error(),
				"replace its server first, or have it write what clients read (docs/layouts.md)"})
		}
	}
	return all
}
