package planner

import (
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// matcher finds the matches that an endpoint satisfies. Each match is indexed
// by the rarest of its fields, so that a search looks up each name once instead
// of comparing each match.
type matcher struct {
	names   []string
	matches [][]field
	files   map[field][]int // the matches of a field, in order
}

// field is the index of a name, and the value that a match requires for the
// name.
type field struct {
	name  int
	value string
}

func newMatcher(matches []map[string]string) *matcher {
	m := &matcher{files: make(map[field][]int)}
	common := make(map[field]int) // how many matches have a field
	for _, match := range matches {
		var fields []field
		for _, name := range slices.Sorted(maps.Keys(match)) {
			f := field{slices.Index(m.names, name), match[name]}
			if f.name < 0 {
				f.name = len(m.names)
				m.names = append(m.names, name)
			}

			fields = append(fields, f)
			common[f]++
		}

		m.matches = append(m.matches, fields)
	}

	for i, fields := range m.matches {
		if len(fields) > 0 {
			rarest := slices.MinFunc(fields, func(a, b field) int {
				return common[a] - common[b]
			})
			m.files[rarest] = append(m.files[rarest], i)
		}
	}

	return m
}

// each calls yield with the index of each match that an endpoint satisfies, in
// no order. No endpoint satisfies an empty match.
func (m *matcher) each(e *endpoint.Endpoint, yield func(i int)) {
	var room [serviceconfig.MaxMatchNames]string
	values := room[:0]
	for _, name := range m.names {
		values = append(values, e.Field(name))
	}

	differs := func(f field) bool { return values[f.name] != f.value }
	for name, value := range values {
		for _, i := range m.files[field{name, value}] {
			if !slices.ContainsFunc(m.matches[i], differs) {
				yield(i)
			}
		}
	}
}
