package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/oldreader"
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
	kindVersions   doctor.Kind = "versions"
	kindWeight     doctor.Kind = "weight"
)

// examine finds what would be lost or change.
func (p *Proposal) examine() {
	p.examineKey()
	p.examineLayouts()
	p.examineVersion()
	p.examineVersions()
	p.examineReaders()
	p.examineRivals()
	p.examineDown()
	p.examineLocal()
	p.examineWeights()
	p.examineChanges()
	p.examineInstances()
	p.examineLeases()
	p.examineUnread()
}

func (p *Proposal) find(kind doctor.Kind, where []string, problem, fix string) {
	p.Findings = append(p.Findings, doctor.Finding{Kind: kind, Where: where, Problem: problem, Fix: fix})
}

// findAmong finds what some entries, if any, have.
func (p *Proposal) findAmong(kind doctor.Kind, found []survey.Instance, what, fix string) {
	if len(found) > 0 {
		p.find(kind, p.where(found), output.CountedIs(len(found), "entry", "has", "have")+" "+what, fix)
	}
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

// havingLeaf returns the well-formed entries that have a value that fits, and the first such value.
func (p *Proposal) havingLeaf(fits func(survey.Instance, survey.Leaf) bool) (found []survey.Instance, first survey.Leaf) {
	for _, i := range p.Entries {
		if i.Err != nil || !survey.IsObject(i.Entry.Value) {
			continue
		}
		leaves := survey.LeavesOf(i.Entry.Value)
		if at := slices.IndexFunc(leaves, func(l survey.Leaf) bool { return fits(i, l) }); at >= 0 {
			if found = append(found, i); len(found) == 1 {
				first = leaves[at]
			}
		}
	}
	return found, first
}

// where returns the first few keys of entries, as etcd has them.
func (p *Proposal) where(entries []survey.Instance) (keys []string) {
	for _, i := range output.FirstOf(entries) {
		keys = append(keys, p.full(i.Entry.Key))
	}
	return keys
}

func (p *Proposal) examineKey() {
	key := []string{p.full(p.Key)}
	if err := p.keyErr(); err != nil {
		p.find(doctor.KindBadKey, key, err.Error(), "no option can name this key, and no client can find it: have the servers use another")
		return
	}
	if p.Authority != "" {
		problem := "the key gives no host that TLS can check"
		if name := servicekey.TLSName(p.Key, ""); name != "" {
			problem = fmt.Sprintf("the key gives the TLS name %s, which is that of another service here", name)
		}
		p.find(kindAuthority, key, problem, fmt.Sprintf("replace %s by the name in the servers' certificates", p.Authority))
	}
	if p.Layout == endpoint.GoFrame && !endpoint.IsGoFrameKey(p.Key) {
		p.find(kindGoFrameKey, key, "the key lacks the five parts /service/DEPLOYMENT/NAMESPACE/NAME/VERSION, which GoFrame's own readers look for",
			"if GoFrame's readers find the service all the same, keep the layout; else these are not GoFrame's entries: find out what writes them")
	}
}

func (p *Proposal) examineLayouts() {
	if counts := p.layouts(); len(counts) > 1 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%s (%d)", name, counts[name]))
		}
		p.find(doctor.KindMixedLayouts, nil, fmt.Sprintf("the entries are in %d layouts: %s; clients read them all, and servers write the one in the option, which is that of most entries", len(counts), strings.Join(parts, ", ")),
			"if old callers read another one, put that into the option, or have servers write both by runtime.WithLayouts")
	}
	switch {
	case !p.Layout.IsZero() && !p.Layout.Written():
		p.find(kindReadOnly, nil, "dubbo's entries are read but not written: servers write the default layout, which dubbo's readers do not know",
			"move the callers first; dubbo's callers need dubbo's servers")
	case p.optional():
		p.find(kindOptional, nil, "clients read these entries without json_layout, too",
			"leave json_layout out if no old caller has to read what new servers write: the default layout has room for metadata")
	}
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

// examineVersion finds a version in the key.
func (p *Proposal) examineVersion() {
	slash := strings.LastIndexByte(p.Key, '/')
	if slash <= 0 {
		return
	}
	parent, last := p.Key[:slash], p.Key[slash+1:]
	says := func(i survey.Instance) bool { return i.Err == nil && i.Version == last && last != "" }
	switch {
	case !survey.IsVersion(last) && !slices.ContainsFunc(p.Entries, says):
	case p.Layout == endpoint.GoFrame && endpoint.IsGoFrameKey(p.Key):
		p.find(kindVersionKey, []string{p.full(p.Key)}, fmt.Sprintf("the version %q is in the key, as GoFrame has it, so a client finds only the servers of that version", last),
			"define a service in the proto for each version that is called")
	default:
		p.find(kindVersionKey, []string{p.full(p.Key)},
			fmt.Sprintf("the version %q is in the key: a client of %q finds only that version, and old callers that list %q find all versions", last, p.Key, parent+"/"),
			fmt.Sprintf("define a service in the proto for each version that is called; or give the servers the key %q and runtime.WithVersion(%q): "+
				"a client of that key finds every version that is registered so, but none that is registered the old way", parent, last))
	}
}

// examineVersions finds entries of several versions at one key.
func (p *Proposal) examineVersions() {
	entries := make(map[string][]survey.Instance)
	for _, i := range p.matching(func(i survey.Instance) bool { return i.Err == nil && i.Version != "" }) {
		entries[i.Version] = append(entries[i.Version], i)
	}
	if len(entries) < 2 {
		return
	}
	var parts []string
	var where []survey.Instance
	for _, v := range slices.Sorted(maps.Keys(entries)) {
		parts = append(parts, fmt.Sprintf("%q (%d)", v, len(entries[v])))
		where = append(where, entries[v][0])
	}
	p.find(kindVersions, p.where(where), fmt.Sprintf("the entries are of %d versions: %s; clients call all of them alike", len(parts), strings.Join(output.FirstOf(parts), ", ")),
		"if old callers choose by the version, have a split of the live policy or the proto do that (docs/traffic.md), or give each version a key")
}

// checkListers reports the first services whose entries the readers of this one find as well, since those list by its bare key,
// and accept. What they do not accept, checkNeighbours reports. behind are the services after this one, sorted by key.
func checkListers(s *survey.Service, behind []*survey.Service, readings doctor.Readings, full func(string) string) (all []doctor.Finding) {
	readers := doctor.ReadersOf(s)
	bare := slices.IndexFunc(readers, func(r oldreader.Reader) bool { return r.Bare })
	if bare < 0 {
		return nil
	}
	reader, mixesUp := readers[bare].Name, readings.MixesUp(s)
	for _, o := range behind {
		if !strings.HasPrefix(o.Key, s.Key) || len(all) == output.MaxWhere {
			break
		}
		if o.Key[len(s.Key)] == '/' || mixesUp(o) != "" {
			continue
		}
		all = append(all, doctor.Finding{Kind: doctor.KindNeighbour, Where: []string{full(s.Key), full(o.Key)},
			Problem: fmt.Sprintf("%s begins like %s: %s reader lists by the bare key, so it finds the entries of both, which it accepts as they are", o.Key, s.Key, reader),
			Fix:     fmt.Sprintf("as long as it reads %s, have the servers of %s write nothing that it does not accept (docs/layouts.md)", s.Key, o.Key)})
	}
	return all
}

// examineReaders says what the old callers of the service cannot bear, and what go-micro's call.
func (p *Proposal) examineReaders() {
	for _, r := range doctor.ReadersOf(p.service()) {
		if r.Layout == p.Layout {
			p.find(doctor.KindOldReader, nil, fmt.Sprintf("%s reader %s", r.Name, r.Does()), doctor.OnlyBorne(r, p.Key))
		}
	}
	if micro := p.matching(func(i survey.Instance) bool { return i.Layout == endpoint.GoMicro }); len(micro) > 0 {
		name := survey.MicroName(micro[0].Entry)
		p.findAmong(doctor.KindMicroName, micro, fmt.Sprintf("the name %.80q, so go-micro's callers call /%[1]s.SERVICE/METHOD: "+
			"a gRPC server answers Unimplemented if its proto package is another", name), doctor.MicroCure)
	}
}

func (p *Proposal) examineRivals() {
	fields := p.homeMade.Fields
	if !p.IsMapped() || len(p.homeMade.Rivals) == 0 {
		return
	}
	taken := fmt.Sprintf("%q", fields.Addr)
	if fields.Addr == "" {
		taken = fmt.Sprintf("%q and %q", fields.Host, fields.Port)
	}
	p.find(kindAddresses, nil, fmt.Sprintf("other fields hold addresses, too: %s; clients call the one in %s", output.Quoted(p.homeMade.Rivals), taken),
		"if gRPC is served at another, name that field in json_layout")
}

// isWeight reports whether a value is in the place of the weight.
func (p *Proposal) isWeight(l survey.Leaf) bool {
	if name := p.homeMade.Fields.Weight; p.IsMapped() && name != "" {
		return l.Path == survey.Step+name
	}
	return strings.EqualFold(l.Name(), "weight")
}

// examineWeights finds weights that clients ignore.
func (p *Proposal) examineWeights() {
	found, first := p.havingLeaf(func(i survey.Instance, l survey.Leaf) bool {
		return i.Weight == 0 && p.isWeight(l) && rawjson.Text(l.Value) != "0"
	})
	if len(found) > 0 {
		p.findAmong(kindWeight, found, fmt.Sprintf("a weight that is not the digits of a whole number up to 4294967295, such as %s: clients ignore it", first.Sample()),
			"give servers a whole number by runtime.WithWeight; multiply fractions by the same number everywhere")
	}
}

// examineInstances finds entries that servers of this project would write under another key.
func (p *Proposal) examineInstances() {
	if !p.Layout.Written() {
		return
	}
	own := func(i survey.Instance) bool { return i.Err == nil && i.Layout == p.Layout }
	written := func(i survey.Instance) string { return p.Layout.Key(p.Key, i.Endpoint, i.Entry.Lease) }
	kept := func(i survey.Instance) bool { return written(i) == i.Entry.Key }
	named := p.matching(func(i survey.Instance) bool {
		byAddr := i
		byAddr.Instance = i.Addr
		return own(i) && kept(i) && !kept(byAddr)
	})
	p.findAmong(kindInstance, named, "a key that does not end in the address", "servers of this project take their address as the instance id; runtime.WithInstance gives them another")
	if moved := p.matching(func(i survey.Instance) bool { return own(i) && !kept(i) }); len(moved) > 0 {
		p.findAmong(kindInstance, moved, fmt.Sprintf("a key that a server of this project would not write: for the first it would write one that ends in %q", strings.TrimPrefix(written(moved[0]), p.Key+"/")),
			"make sure that old callers do not go by what the key ends in")
	}
}

func (p *Proposal) examineLeases() {
	if found := p.matching(func(i survey.Instance) bool { return i.Entry.Lease == 0 }); len(found) > 0 {
		p.findAmong(doctor.KindNoLease, found, "no lease, and would stay after the move", "delete each when its server is replaced: etcdctl del "+output.Shell(p.where(found)[0]))
	}
}

// examineUnread finds each entry that no client would read, and says why.
func (p *Proposal) examineUnread() {
	for _, i := range p.Entries {
		if i.Err != nil {
			p.find(kindUnread, []string{p.full(i.Entry.Key)}, "clients would not read the entry: "+i.Err.Error(), "replace its server first, or have it write what clients read (docs/layouts.md)")
		}
	}
}
