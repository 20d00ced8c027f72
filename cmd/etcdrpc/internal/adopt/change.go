package adopt

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// maxDifferences bounds the differences that are reported for a service.
const maxDifferences = 50

// difference is a value that servers with the proposed option would write otherwise.
type difference struct {
	lost bool   // they would not write it
	path string // of the value
	how  string // a predicate to the path
}

// differencesOf compares an entry with what a server of this project would write for the same endpoint.
func differencesOf(key string, i survey.Instance) ([]difference, error) {
	written, err := i.Layout.Encode(key, i.Endpoint)
	if err != nil || !survey.IsObject(i.Entry.Value) || !survey.IsObject(written) {
		return nil, err
	}
	there := survey.LeavesOf(written)
	var all []difference
	for _, l := range survey.LeavesOf(i.Entry.Value) {
		if d, differs := compareLeaf(l, there); differs {
			all = append(all, d)
		}
	}
	return all, nil
}

// compareLeaf looks for a value among those that would be written.
func compareLeaf(l survey.Leaf, there []survey.Leaf) (difference, bool) {
	var at *survey.Leaf
	for n, o := range there {
		if !survey.Within(l.Path, o.Path) {
			continue
		}
		if o.Path == l.Path && o.Value[0] == l.Value[0] && o.Text() == l.Text() {
			return difference{}, false
		}
		at = &there[n]
	}
	switch {
	case at != nil && at.Path != l.Path: // the object that it is in becomes a string
		return difference{path: at.Path, how: "is not a string, and is written as one"}, true
	case at != nil && !l.InArray():
		return difference{path: l.Path, how: becomes(l, *at)}, true
	}
	for _, o := range there {
		if survey.Within(o.Path, l.Path) && !l.InArray() {
			return difference{path: l.Path, how: "is " + survey.KindOf(l.Value) + ", and is written as part of an object"}, true
		}
		if strings.EqualFold(o.Name(), l.Name()) && o.Text() == l.Text() {
			return difference{path: l.Path, how: "is written as " + survey.ShownPath(o.Path)}, true
		}
		if strings.EqualFold(o.Path, l.Path) && !l.InArray() {
			return difference{path: l.Path, how: fmt.Sprintf("is %s, and is written as %s: %s", l.Sample(), survey.ShownPath(o.Path), o.Sample())}, true
		}
	}
	d := difference{lost: true, path: l.Missing(there), how: "is not written"}
	if d.path == l.Path {
		d.how += ", such as " + l.Sample()
	}
	return d, true
}

// becomes describes how a value would be written.
func becomes(l, o survey.Leaf) string {
	was, is := survey.KindOf(l.Value), survey.KindOf(o.Value)
	if was == is || l.Text() != o.Text() {
		was, is = l.Sample(), o.Sample()
	}
	if was == is {
		return "is written otherwise"
	}
	return fmt.Sprintf("is %s, and is written as %s", was, is)
}

// examineChanges finds what would be lost or written otherwise, each once with an example.
func (p *Proposal) examineChanges() {
	type told struct {
		difference
		first   string
		entries int
	}
	byPath := make(map[difference]*told)
	for _, i := range p.Entries {
		if i.Layout != p.Layout || i.Err != nil || !p.Layout.Written() {
			continue
		}
		differences, err := differencesOf(p.Key, i)
		if err != nil {
			differences = []difference{{how: "cannot be written again: " + err.Error()}}
		}
		seen := make(map[difference]bool)
		for _, d := range differences {
			if p.isWeight(survey.Leaf{Path: d.path}) && i.Weight == 0 { // examineWeights finds it
				continue
			}
			at := difference{d.lost, d.path, ""}
			if byPath[at] == nil && len(byPath) < maxDifferences {
				byPath[at] = &told{difference: d, first: p.full(i.Entry.Key)}
			}
			if t := byPath[at]; t != nil && !seen[at] {
				t.entries, seen[at] = t.entries+1, true
			}
		}
	}
	inOrder := slices.SortedFunc(maps.Values(byPath), func(a, b *told) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.first, b.first))
	})
	for _, t := range inOrder {
		p.Findings = append(p.Findings, p.changeFinding(t.difference, t.first, t.entries))
	}
}

// changeFinding reports a difference that so many entries have.
func (p *Proposal) changeFinding(d difference, first string, entries int) doctor.Finding {
	f := doctor.Finding{Kind: kindChange, Where: []string{first},
		Problem: fmt.Sprintf("%s %s (%d of %s)", survey.ShownPath(d.path), d.how, entries, output.Counted(len(p.Entries), "entry")),
		Fix:     "make sure that old callers accept it, or move them first (docs/migration.md)"}
	switch {
	case d.path == "":
		f.Problem = fmt.Sprintf("the entry %s (%d of %d)", d.how, entries, len(p.Entries))
		f.Fix = "clients read the entry; but a server of this project has to register with other values, or in another layout"
	case d.lost && p.IsMapped() && slices.Contains(survey.ServiceNames, survey.NormalName(strings.TrimPrefix(d.path, survey.Step))):
		f.Kind = kindLost
		f.Fix = fmt.Sprintf("json_layout can have it as name: servers then write the last segment of the key, %q", survey.LastSegment(p.Key))
	case d.lost && p.Layout.Metadata():
		f.Kind = kindLost
		f.Fix = "if callers need it, move them first, and set it by runtime.WithMetadata"
	case d.lost:
		f.Kind = kindLost
		f.Fix = "make sure that no caller needs it: the layout has no room for metadata"
	}
	return f
}
