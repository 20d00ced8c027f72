package targets

import (
	"bytes"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// catalog is what etcd holds under a prefix, and what Prometheus is told of it. It is safe for concurrent use.
type catalog struct {
	port Port

	mu      sync.Mutex
	entries map[string]survey.Entry // nil until they have been listed
	text    []byte                  // nil: to be made
}

func newCatalog(port Port) *catalog { return &catalog{port: port} }

// replace takes in all entries.
func (c *catalog) replace(entries map[string]survey.Entry) {
	all := make(map[string]survey.Entry, len(entries))
	for key, e := range entries {
		all[key] = bounded(e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.text = all, nil
}

// apply takes in what has changed since they were listed.
func (c *catalog) apply(events []*clientv3.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, event := range events {
		if event.Type == mvccpb.DELETE {
			delete(c.entries, string(event.Kv.Key))
		} else {
			c.entries[string(event.Kv.Key)] = bounded(store.EntryOf(event.Kv))
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

// json returns the targets. known is false until the entries have been listed once.
func (c *catalog) json() (text []byte, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return nil, false, nil
	}
	if c.text == nil {
		if c.text, err = output.Marshal(Of(survey.All(survey.InOrder(c.entries)), c.port), ""); err != nil {
			return nil, true, err
		}
	}
	return c.text, true, nil
}
