package survey

import (
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
	// maxSample bounds a value that is shown as an example, in bytes.
	maxSample = 40
)

// Leaf is one value in an object.
type Leaf struct {
	Path  string // the names that lead to it, each after step, with inArray for each array
	Value []byte
}

// The parts of a path.
const (
	Step    = "\x00" // in no name, since names are made printable
	inArray = Step + "[]"
)

// Name returns the last name in the path.
func (l Leaf) Name() string {
	path := strings.ReplaceAll(l.Path, inArray, "")
	return path[strings.LastIndex(path, Step)+1:]
}

// InArray reports whether the value is in an array.
func (l Leaf) InArray() bool { return strings.Contains(l.Path, inArray) }

// ShownPath returns a path for people: "labels.team", "endpoints[]".
func ShownPath(path string) string {
	return `"` + strings.TrimPrefix(strings.NewReplacer(inArray, "[]", Step, ".").Replace(path), ".") + `"`
}

// Text returns a value as text, without the query of a URL in an array.
func (l Leaf) Text() string {
	text := rawjson.Text(l.Value)
	if l.InArray() {
		text, _, _ = strings.Cut(text, "?")
	}
	return text
}

// Sample returns a value for people.
func (l Leaf) Sample() string {
	text := printable.Short(rawjson.Text(l.Value), maxSample)
	if l.Value[0] == '"' {
		return `"` + text + `"`
	}
	return text
}

// LeavesOf returns the values in an object, without null and what is empty.
func LeavesOf(object []byte) (all []Leaf) {
	var walk func(path string, value []byte, depth int) bool
	walk = func(path string, value []byte, depth int) bool {
		switch text := string(value[:min(len(value), 3)]); {
		case depth < maxDepth && value[0] == '{':
			rawjson.Members(value, func(name, value []byte) bool {
				return walk(path+Step+printable.Short(string(name), endpoint.MaxField), value, depth+1)
			})
		case depth < maxDepth && value[0] == '[':
			rawjson.Elements(value, func(value []byte) bool { return walk(path+inArray, value, depth+1) })
		case value[0] == 'n' || text == `""` || text == "{}" || text == "[]":
		default:
			all = append(all, Leaf{path, value})
		}
		return len(all) < maxLeaves
	}
	walk("", rawjson.SkipSpace(object), 0)
	return all
}

// Within reports whether a path is outer, or leads to a value in it.
func Within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || strings.HasPrefix(rest, Step))
}

// Missing returns the outermost part of a path below which nothing would be written.
func (l Leaf) Missing(there []Leaf) string {
	for n := 1; n < len(l.Path); n++ {
		if outer := l.Path[:n]; strings.HasPrefix(l.Path[n:], Step) &&
			!slices.ContainsFunc(there, func(o Leaf) bool { return Within(o.Path, outer) }) {
			return outer
		}
	}
	return l.Path
}
