package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/oldreader"
)

// ReadersOf returns the other frameworks' readers that may read a service, by the layouts of its entries, and that some
// entries harm.
func ReadersOf(s *survey.Service) (all []oldreader.Reader) {
	for _, r := range oldreader.All {
		if s.Uses(r.Layout) && (r.Layout != endpoint.GoFrame || endpoint.IsGoFrameKey(s.Key)) {
			all = append(all, r)
		}
	}
	return all
}

// entriesOf returns the entries that a reader of a service finds: the service's, and those that no service has, below its key or,
// where it lists by the bare key, in keys that begin like it. Of other services there, [patient.checkNeighbours] tells.
func (p *patient) entriesOf(r oldreader.Reader, s *survey.Service) []survey.Instance {
	all := slices.Concat(s.Instances, s.Malformed)
	prefix := s.Key + "/"
	if r.Bare {
		prefix = s.Key
	}
	under := p.entriesUnder(prefix)
	if len(under) == 0 {
		return all
	}
	had := make(map[string]bool)
	for _, o := range append(slices.Clone(p.following(s)), s) {
		for _, i := range slices.Concat(o.Instances, o.Malformed) {
			had[i.Entry.Key] = o == s || o.InUse()
		}
	}
	for _, e := range under {
		if !had[e.Key] {
			all = append(all, survey.Instance{Entry: e})
		}
	}
	return all
}

// entriesUnder returns the entries whose keys begin with a prefix.
func (p *patient) entriesUnder(prefix string) []survey.Entry {
	from, _ := slices.BinarySearchFunc(p.entries, prefix, func(e survey.Entry, key string) int { return strings.Compare(e.Key, key) })
	to := from
	for to < len(p.entries) && strings.HasPrefix(p.entries[to].Key, prefix) {
		to++
	}
	return p.entries[from:to]
}

// overEntries returns what a reader does over entries, in the order of these, and the keys of those over which it does so.
func overEntries(r oldreader.Reader, entries []survey.Instance) (all []string, keys map[string][]string) {
	keys = make(map[string][]string)
	for _, i := range entries {
		does := r.Over(i.Entry.Key, i.Entry.Value)
		if does == "" || i.Entry.Size > 0 { // the head alone does not tell
			continue
		}
		if keys[does] == nil {
			all = append(all, does)
		}
		keys[does] = append(keys[does], i.Entry.Key)
	}
	return all, keys
}

// checkReaders finds the entries that other frameworks' readers of a service cannot bear.
func (p *patient) checkReaders(s *survey.Service) {
	for _, r := range ReadersOf(s) {
		entries := p.entriesOf(r, s)
		all, keys := overEntries(r, entries)
		for _, does := range all {
			p.report(KindOldReader, fmt.Sprintf("%s reader %s (%d of %s)", r.Name, does, len(keys[does]), output.Counted(len(entries), "entry")),
				OnlyBorne(r, s.Key), output.FirstOf(keys[does])...)
		}
	}
}

// OnlyBorne is what to do for a reader.
func OnlyBorne(r oldreader.Reader, key string) string {
	var names []string
	for _, l := range r.Bears(key) {
		names = append(names, strings.ToUpper(l.String()))
	}
	return fmt.Sprintf("as long as one reads %s, write nothing there but %s (docs/layouts.md, Readers of others); move the callers first, or servers to a key of your own", key, strings.Join(names, ", "))
}
