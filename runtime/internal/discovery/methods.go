package discovery

import (
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// methods counts the texts in which the backends of a set name their methods, update after update: a pass over thousands
// of backends reads memory that is in no cache. The zero value is ready for use.
type methods struct {
	backends map[string]int // by text
	summary  *attr.Summary  // nil: out of date
}

// replace returns the summary of a set that replaces another, the same one until it changes.
func (m *methods) replace(old, next []*Backend) *attr.Summary {
	gone, come := changed(old, next)
	for _, b := range come {
		m.add(attr.Methods(b.grpc), 1)
	}
	for _, b := range gone {
		m.add(attr.Methods(b.grpc), -1)
	}
	if m.summary == nil {
		m.summary = &attr.Summary{Methods: slices.Sorted(maps.Keys(m.backends))}
	}
	return m.summary
}

func (m *methods) add(text string, n int) {
	if m.backends == nil {
		m.backends = make(map[string]int)
	}
	before := m.backends[text]
	if m.backends[text] = before + n; before+n == 0 {
		delete(m.backends, text)
	}
	if before == 0 || before+n == 0 {
		m.summary = nil
	}
}
