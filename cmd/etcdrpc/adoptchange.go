package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

const (
	// maxLeaves bounds the values of an entry that are compared: all metadata that an endpoint may have, and its fields.
	maxLeaves = endpoint.MaxMetadata + 50
	// maxDepth bounds how deep the search for values goes. What is deeper is compared as a whole.
	maxDepth = 4
	// maxDifferences bounds the differences that are reported for a service.
	maxDifferences = 50
	// maxSample bounds a value that is shown as an example, in bytes.
	maxSample = 40
)

// leaf is one value in an object.
type leaf struct {
	path  string // the names that lead to it, each after step, with inArray for each array
	value []byte
}

const (
	step    = "\x00" // in no name, since names are made printable
	inArray = step + "[]"
)

// name returns the last name in the path.
func (l leaf) name() string {
	path := strings.ReplaceAll(l.path, inArray, "")
	return path[strings.LastIndex(path, step)+1:]
}

func (l leaf) inArray() bool { return strings.Contains(l.path, inArray) }

// shownPath returns a path for people: "labels.team", "endpoints[]".
func shownPath(path string) string {
	return `"` + strings.TrimPrefix(strings.NewReplacer(inArray, "[]", step, ".").Replace(path), ".") + `"`
}

// text returns a value as text, without the query of a URL in an array.
func (l leaf) text() string {
	text := rawjson.Text(l.value)
	if l.inArray() {
		text, _, _ = strings.Cut(text, "?")
	}
	return text
}

// sample returns a value for people.
func (l leaf) sample() string {
	text := printable.Short(rawjson.Text(l.value), maxSample)
	if l.value[0] == '"' {
		return `"` + text + `"`
	}
	return text
}

// leavesOf returns the values in an object, without null and what is empty.
func leavesOf(object []byte) (all []leaf) {
	var walk func(path string, value []byte, depth int) bool
	walk = func(path string, value []byte, depth int) bool {
		switch text := string(value[:min(len(value), 3)]); {
		case depth < maxDepth && value[0] == '{':
			rawjson.Members(value, func(name, value []byte) bool {
				return walk(path+step+printable.Short(string(name), endpoint.MaxField), value, depth+1)
			})
		case depth < maxDepth && value[0] == '[':
			rawjson.Elements(value, func(value []byte) bool { return walk(path+inArray, value, depth+1) })
		case value[0] == 'n' || text == `""` || text == "{}" || text == "[]":
		default:
			all = append(all, leaf{path, value})
		}
		return len(all) < maxLeaves
	}
	walk("", rawjson.SkipSpace(object), 0)
	return all
}

// difference is a value that servers with the proposed option would write otherwise.
type difference struct {
	lost bool   // they would not write it
	path string // of the value
	how  string // a predicate to the path
}

// differencesOf compares an entry with what a server of this project would write for the same endpoint.
func differencesOf(key string, i instance) ([]difference, error) {
	written, err := i.layout.Encode(key, i.Endpoint)
	if err != nil || !isObject(i.entry.value) || !isObject(written) {
		return nil, err
	}
	there := leavesOf(written)
	var all []difference
	for _, l := range leavesOf(i.entry.value) {
		if d, differs := l.compare(there); differs {
			all = append(all, d)
		}
	}
	return all, nil
}

// compare looks for a value among those that would be written.
func (l leaf) compare(there []leaf) (difference, bool) {
	var at *leaf
	for n, o := range there {
		if !within(l.path, o.path) {
			continue
		}
		if o.path == l.path && o.value[0] == l.value[0] && o.text() == l.text() {
			return difference{}, false
		}
		at = &there[n]
	}
	switch {
	case at != nil && at.path != l.path: // the object that it is in becomes a string
		return difference{path: at.path, how: "is not a string, and is written as one"}, true
	case at != nil && !l.inArray():
		return difference{path: l.path, how: l.becomes(*at)}, true
	}
	for _, o := range there {
		if within(o.path, l.path) && !l.inArray() {
			return difference{path: l.path, how: "is " + kindOf(l.value) + ", and is written as part of an object"}, true
		}
		if strings.EqualFold(o.name(), l.name()) && o.text() == l.text() {
			return difference{path: l.path, how: "is written as " + shownPath(o.path)}, true
		}
		if strings.EqualFold(o.path, l.path) && !l.inArray() {
			return difference{path: l.path, how: fmt.Sprintf("is %s, and is written as %s: %s", l.sample(), shownPath(o.path), o.sample())}, true
		}
	}
	d := difference{lost: true, path: l.missing(there), how: "is not written"}
	if d.path == l.path {
		d.how += ", such as " + l.sample()
	}
	return d, true
}

// within reports whether a path is outer, or leads to a value in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || strings.HasPrefix(rest, step))
}

// becomes describes how a value would be written.
func (l leaf) becomes(o leaf) string {
	was, is := kindOf(l.value), kindOf(o.value)
	if was == is || l.text() != o.text() {
		was, is = l.sample(), o.sample()
	}
	if was == is {
		return "is written otherwise"
	}
	return fmt.Sprintf("is %s, and is written as %s", was, is)
}

// missing returns the outermost part of a path below which nothing would be written.
func (l leaf) missing(there []leaf) string {
	for n := 1; n < len(l.path); n++ {
		if outer := l.path[:n]; strings.HasPrefix(l.path[n:], step) &&
			!slices.ContainsFunc(there, func(o leaf) bool { return within(o.path, outer) }) {
			return outer
		}
	}
	return l.path
}

// changeFindings reports what would be lost or written otherwise, each once with an example.
func (p *proposal) changeFindings() (all []finding) {
	type told struct {
		difference
		first   string
		entries int
	}
	byPath := make(map[difference]*told)
	for _, i := range p.entries {
		if i.layout != p.layout || i.err != nil || p.layout == endpoint.Dubbo {
			continue
		}
		differences, err := differencesOf(p.key, i)
		if err != nil {
			differences = []difference{{how: "cannot be written again: " + err.Error()}}
		}
		seen := make(map[difference]bool)
		for _, d := range differences {
			if p.isWeight(leaf{path: d.path}) && i.Weight == 0 { // weightFindings reports it
				continue
			}
			at := difference{d.lost, d.path, ""}
			if byPath[at] == nil && len(byPath) < maxDifferences {
				byPath[at] = &told{difference: d, first: p.full(i.entry.key)}
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
		all = append(all, p.changeFinding(t.difference, t.first, t.entries))
	}
	return all
}

// changeFinding reports a difference that so many entries have.
func (p *proposal) changeFinding(d difference, first string, entries int) finding {
	f := finding{Kind: kindChange, Where: []string{first},
		Problem: fmt.Sprintf("%s %s (%d of %s)", shownPath(d.path), d.how, entries, entriesCounted(len(p.entries))),
		Fix:     "make sure that old callers accept it, or move them first (docs/migration.md)"}
	switch {
	case d.path == "":
		f.Problem = fmt.Sprintf("the entry %s (%d of %d)", d.how, entries, len(p.entries))
		f.Fix = "clients read the entry; but a server of this project has to register with other values, or in another layout"
	case d.lost && p.isMapped() && slices.Contains(serviceNames, normalName(strings.TrimPrefix(d.path, step))):
		f.Kind = kindLost
		f.Fix = fmt.Sprintf("json_layout can have it as name: servers then write the last segment of the key, %q", lastSegment(p.key))
	case d.lost && p.layout.Metadata():
		f.Kind = kindLost
		f.Fix = "if callers need it, move them first, and set it by runtime.WithMetadata"
	case d.lost:
		f.Kind = kindLost
		f.Fix = "make sure that no caller needs it: the layout has no room for metadata"
	}
	return f
}
