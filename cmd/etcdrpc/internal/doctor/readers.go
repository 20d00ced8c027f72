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

// ReadersOf returns the other frameworks' readers that may read a service, by the layouts of its entries, and that not every
// entry is harmless to.
func ReadersOf(s *survey.Service) (all []oldreader.Reader) {
	for _, r := range oldreader.All {
		if s.Uses(r.Layout) && (r.Layout != endpoint.GoFrame || survey.GoFrameKey(s.Key)) {
			all = append(all, r)
		}
	}
	return all
}

// overEntries returns what a reader does over the entries of a service, in the order of these, and the keys of those over which
// it does so.
func overEntries(r oldreader.Reader, s *survey.Service) (all []string, keys map[string][]string) {
	keys = make(map[string][]string)
	for _, i := range slices.Concat(s.Instances, s.Malformed) {
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
		all, keys := overEntries(r, s)
		for _, does := range all {
			p.report(KindOldReader, fmt.Sprintf("%s reader %s (%d of %s)", r.Name, does, len(keys[does]), output.Counted(len(s.Instances)+len(s.Malformed), "entry")),
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
