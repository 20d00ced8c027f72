package plan

import (
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// matcher finds which of some matches an endpoint satisfies. Each match is filed under the rarest of its fields, so that a search looks
// up each name once rather than comparing each match.
type matcher struct {
	matches []map[string]string
	names   []string        // that matches are filed under
	files   map[field][]int // the matches of a field, in order
}

// field is a name and the value that a match wants of it.
type field struct{ name, value string }

func newMatcher(matches []map[string]string) *matcher {
	m := &matcher{matches: matches, files: make(map[field][]int)}
	common := make(map[field]int) // how many matches have a field
	for _, match := range matches {
		for name, value := range match {
			common[field{name, value}]++
		}
	}
	for i, match := range matches {
		if len(match) == 0 {
			continue
		}
		rarest := slices.MinFunc(slices.Sorted(maps.Keys(match)), func(a, b string) int {
			return common[field{a, match[a]}] - common[field{b, match[b]}]
		})
		key := field{rarest, match[rarest]}
		m.files[key] = append(m.files[key], i)
		if !slices.Contains(m.names, rarest) {
			m.names = append(m.names, rarest)
		}
	}
	return m
}

// each calls yield with each match that an endpoint satisfies, in no order. No endpoint satisfies an empty one.
func (m *matcher) each(e *endpoint.Endpoint, yield func(i int)) {
	for _, name := range m.names {
		for _, i := range m.files[field{name, e.Field(name)}] {
			if satisfies(e, m.matches[i]) {
				yield(i)
			}
		}
	}
}

func satisfies(e *endpoint.Endpoint, match map[string]string) bool {
	for name, value := range match {
		if e.Field(name) != value {
			return false
		}
	}
	return true
}
