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

// The kinds of findings that only adopt has. Neighbours, nested keys, mixed layouts and the like are doctor's kinds, too.
const (
	kindAuthority  kind = "authority"
	kindAddresses  kind = "addresses"
	kindChange     kind = "change"
	kindGoFrameKey kind = "go-frame-key"
	kindInactive   kind = "inactive"
	kindInstance   kind = "instance"
	kindLocal      kind = "local-address"
	kindLost       kind = "lost"
	kindOptional   kind = "optional"
	kindReadOnly   kind = "read-only"
	kindUnread     kind = "unread"
	kindVersionKey kind = "version-in-key"
	kindWeight     kind = "weight"
)

// maxWhere bounds the keys that one finding names.
const maxWhere = 3

// examine returns what would be lost or change.
func (p *proposal) examine() []finding {
	return slices.Concat(p.keyFindings(), p.layoutFindings(), p.versionFindings(), p.rivalFindings(), p.downFindings(), p.localFindings(),
		p.weightFindings(), p.changeFindings(), p.instanceFindings(), p.leaseFindings(), p.unreadFindings())
}

// matching returns the entries that fit.
func (p *proposal) matching(fits func(i instance) bool) (found []instance) {
	for _, i := range p.entries {
		if fits(i) {
			found = append(found, i)
		}
	}
	return found
}

// where returns the first few keys of entries, as etcd has them.
func (p *proposal) where(entries []instance) (keys []string) {
	for _, i := range firstOf(entries) {
		keys = append(keys, p.full(i.entry.key))
	}
	return keys
}

func firstOf[T any](all []T) []T { return all[:min(len(all), maxWhere)] }

func entriesHave(n int) string {
	if n == 1 {
		return "1 entry has"
	}
	return fmt.Sprintf("%d entries have", n)
}

func (p *proposal) keyFindings() (all []finding) {
	if err := p.keyErr(); err != nil {
		return []finding{{kindBadKey, []string{p.full(p.key)}, err.Error(), "no option can name this key, and no client can find it: have the servers use another"}}
	}
	if p.authority != "" {
		problem := "the key gives no host that TLS can check"
		if name := servicekey.TLSName(p.key, ""); name != "" {
			problem = fmt.Sprintf("the key gives the TLS name %s, which is that of another service here", name)
		}
		all = append(all, finding{kindAuthority, []string{p.full(p.key)}, problem,
			fmt.Sprintf("replace %s by the name in the servers' certificates", p.authority)})
	}
	if p.layout == endpoint.GoFrame && !goFrameKey(p.key) {
		all = append(all, finding{kindGoFrameKey, []string{p.full(p.key)}, "the key lacks the five parts /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, which GoFrame's own readers look for",
			"if GoFrame's readers find the service all the same, keep the layout; else these are not GoFrame's entries: find out what writes them"})
	}
	return all
}

func (p *proposal) layoutFindings() (all []finding) {
	if counts := p.layouts(); len(counts) > 1 {
		var parts []string
		for _, name := range sortedKeys(counts) {
			parts = append(parts, fmt.Sprintf("%s (%d)", name, counts[name]))
		}
		all = append(all, finding{kindMixedLayouts, nil, fmt.Sprintf("the entries are in %d layouts: %s; clients read them all, and servers write the one in the option, which is that of most entries", len(counts), strings.Join(parts, ", ")),
			"if old callers read another one, put that into the option, or have servers write both by runtime.WithLayouts"})
	}
	switch {
	case p.layout == endpoint.Dubbo:
		all = append(all, finding{kindReadOnly, nil, "dubbo's entries are read but not written: servers write the default layout, which dubbo's readers do not know",
			"move the callers first; dubbo's callers need dubbo's servers"})
	case p.optional():
		all = append(all, finding{kindOptional, nil, "clients read these entries without json_layout, too",
			"leave json_layout out if no old caller has to read what new servers write: the default layout has room for metadata"})
	}
	return all
}

// optional reports whether clients read all entries of home-made JSON the same without the json_layout. An entry that
// they would take for GoFrame's, with the address in its key alone, does not count.
func (p *proposal) optional() bool {
	for _, i := range p.entries {
		if !p.isMapped() || i.layout != p.layout {
			continue
		}
		o := decode(anyLayout, p.key, i.entry)
		if o.err != nil || o.layout == endpoint.GoFrame || !o.Equal(i.Endpoint) {
			return false
		}
	}
	return p.isMapped()
}

var version = regexp.MustCompile(`^(v[0-9]+([._-][0-9A-Za-z]+)*|[0-9]+(\.[0-9]+)+)$`)

// versionFindings reports a version in the key.
func (p *proposal) versionFindings() []finding {
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
		return []finding{{kindVersionKey, []string{p.full(p.key)}, fmt.Sprintf("the version %q is in the key, as GoFrame has it, so a client finds only the servers of that version", last),
			"define a service in the proto for each version that is called"}}
	}
	return []finding{{kindVersionKey, []string{p.full(p.key)},
		fmt.Sprintf("the version %q is in the key: a client of %q finds only that version, and old callers that list %q find all versions", last, p.key, parent+"/"),
		fmt.Sprintf("define a service in the proto for each version that is called; or give the servers the key %q and runtime.WithVersion(%q): "+
			"a client of that key finds every version that is registered so, but none that is registered the old way", parent, last)}}
}

// checkListers reports services whose entries the readers of this one find as well, since those list by its bare key,
// and accept. What they do not accept, checkNeighbours reports.
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
			fmt.Sprintf("%s begins like %s: %s reader lists by the bare key, so it finds the entries of both, which it accepts as they are", o.key, s.key, reader),
			fmt.Sprintf("as long as it reads %s, have the servers of %s write nothing that it does not accept (docs/layouts.md)", s.key, o.key)})
	}
	return all
}

func (p *proposal) rivalFindings() []finding {
	fields := p.homeMade.fields
	if !p.isMapped() || len(p.homeMade.rivals) == 0 {
		return nil
	}
	taken := fmt.Sprintf("%q", fields.Addr)
	if fields.Addr == "" {
		taken = fmt.Sprintf("%q and %q", fields.Host, fields.Port)
	}
	return []finding{{kindAddresses, nil, fmt.Sprintf("other fields hold addresses, too: %s; clients call the one in %s", quoted(p.homeMade.rivals), taken),
		"if gRPC is served at another, name that field in json_layout"}}
}

// quoted returns the first few names as a list.
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

// isWeight reports whether a value is in the place of the weight.
func (p *proposal) isWeight(l leaf) bool {
	if name := p.homeMade.fields.Weight; p.isMapped() && name != "" {
		return l.path == step+name
	}
	return strings.EqualFold(l.name(), "weight")
}

// weightFindings reports weights that clients ignore.
func (p *proposal) weightFindings() []finding {
	sample := ""
	found := p.matching(func(i instance) bool {
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
	if len(found) == 0 {
		return nil
	}
	return []finding{{kindWeight, p.where(found), fmt.Sprintf("%s a weight that is not the digits of a whole number up to 4294967295, such as %s: clients ignore it", entriesHave(len(found)), sample),
		"give servers a whole number by runtime.WithWeight; multiply fractions by the same number everywhere"}}
}

// instanceFindings reports entries that servers of this project would write under another key.
func (p *proposal) instanceFindings() (all []finding) {
	if p.layout.IsZero() || p.layout == endpoint.Dubbo {
		return nil
	}
	own := func(i instance) bool { return i.err == nil && i.layout == p.layout }
	written := func(i instance) string { return p.layout.Key(p.key, i.Endpoint, i.entry.lease) }
	kept := func(i instance) bool { return written(i) == i.entry.key }
	named := p.matching(func(i instance) bool {
		byAddr := i
		byAddr.Instance = i.Addr
		return own(i) && kept(i) && !kept(byAddr)
	})
	if len(named) > 0 {
		all = append(all, finding{kindInstance, p.where(named), fmt.Sprintf("%s a key that does not end in the address", entriesHave(len(named))),
			"servers of this project take their address as the instance id; runtime.WithInstance gives them another"})
	}
	moved := p.matching(func(i instance) bool { return own(i) && !kept(i) })
	if len(moved) > 0 {
		all = append(all, finding{kindInstance, p.where(moved), fmt.Sprintf("%s a key that a server of this project would not write: for the first it would write one that ends in %q",
			entriesHave(len(moved)), strings.TrimPrefix(written(moved[0]), p.key+"/")),
			"make sure that old callers do not go by what the key ends in"})
	}
	return all
}

func (p *proposal) leaseFindings() []finding {
	found := p.matching(func(i instance) bool { return i.entry.lease == 0 })
	if len(found) == 0 {
		return nil
	}
	where := p.where(found)
	return []finding{{kindNoLease, where, entriesHave(len(found)) + " no lease, and would stay after the move",
		fmt.Sprintf("delete each when its server is replaced: etcdctl del %s", shell(where[0]))}}
}

// unreadFindings reports each entry that no client would read, and why.
func (p *proposal) unreadFindings() (all []finding) {
	for _, i := range p.entries {
		if i.err != nil {
			all = append(all, finding{kindUnread, []string{p.full(i.entry.key)}, "clients would not read the entry: " + i.err.Error(),
				"replace its server first, or have it write what clients read (docs/layouts.md)"})
		}
	}
	return all
}
