package targets

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// catalog is what etcd holds under some ranges, and what Prometheus is told of it. It is safe for concurrent use.
type catalog struct {
	port Port

	mu    sync.Mutex
	parts []map[string]survey.Entry // for each range, nil until it has been listed
	text  []byte                    // nil: to be made
}

func newCatalog(ranges int, port Port) *catalog {
	return &catalog{port: port, parts: make([]map[string]survey.Entry, ranges)}
}

// replace takes in all entries of a range.
func (c *catalog) replace(part int, entries []survey.Entry) {
	all := make(map[string]survey.Entry, len(entries))
	for _, e := range entries {
		all[e.Key] = bounded(e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts[part], c.text = all, nil
}

// apply takes in what has changed in a range that has been listed.
func (c *catalog) apply(part int, events []*clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range events {
		if event.Type == mvccpb.DELETE {
			delete(c.parts[part], string(event.Kv.Key))
		} else {
			c.parts[part][string(event.Kv.Key)] = bounded(store.EntryOf(event.Kv))
		}
	}
	c.text = nil
}

// bounded returns an entry without the rest of a value that is too long to be read.
func bounded(e survey.Entry) survey.Entry {
	if len(e.Value) > endpoint.MaxValue && !strings.HasPrefix(e.Key, survey.ConfigPrefix) {
		e.Value = bytes.Clone(e.Value[:endpoint.MaxValue+1])
	}
	return e
}

// json returns the targets. known is false until every range has been listed once.
func (c *catalog) json() (text []byte, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.parts, func(part map[string]survey.Entry) bool { return part == nil }) {
		return nil, false, nil
	}
	if c.text == nil {
		var entries []survey.Entry
		for _, part := range c.parts {
			for _, key := range slices.Sorted(maps.Keys(part)) {
				entries = append(entries, part[key])
			}
		}
		if c.text, err = output.Marshal(Of(survey.All(entries), c.port), ""); err != nil {
			return nil, true, err
		}
	}
	return c.text, true, nil
}
