package main

import (
	"bytes"
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// targetGroup is what Prometheus reads by http_sd and file_sd.
type targetGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// metaLabel begins the names of labels that Prometheus drops after relabeling.
const metaLabel = "__meta_etcdrpc_"

// metricsPort says at which port the metrics of an instance are. The zero value is the instance's own.
type metricsPort struct {
	number   int
	metadata string // the piece of metadata that says it
}

// of returns where the metrics of an instance are. ok is false if it does not say.
func (p metricsPort) of(e *endpoint.Endpoint) (target string, ok bool) {
	port := strconv.Itoa(p.number)
	switch {
	case p.metadata != "":
		port = strings.TrimSpace(e.Metadata[p.metadata])
	case p.number == 0:
		return e.Addr, true
	}
	host, _, err := net.SplitHostPort(e.Addr)
	if err != nil || !servicekey.IsPort(port) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// targetsOf returns a group for each instance of the services, as clients see them: one an address, and none that its
// owner is withdrawing.
func targetsOf(services []*service, port metricsPort) []targetGroup {
	groups := []targetGroup{}
	for _, s := range services {
		if !s.evident() {
			continue // a setting that happens to be an address
		}
		drained := s.drainNames()
		for _, i := range s.merged().instances {
			target, ok := port.of(&i.Endpoint)
			if !ok {
				continue
			}
			groups = append(groups, targetGroup{[]string{target}, targetLabels(s, &i, i.isDrained(drained))})
		}
	}
	return groups
}

// targetLabels returns what is known of an instance, without what is empty. Of several pieces of metadata whose names become
// one, it has the first by name.
func targetLabels(s *service, i *instance, drained bool) map[string]string {
	state := "registered"
	if drained {
		state = "drained"
	}
	labels := map[string]string{
		"key": s.key, "instance": i.Instance, "address": i.Addr, "layout": s.layoutName(*i), "state": state,
		"version": i.Version, "zone": i.Zone,
	}
	if i.Weight > 0 {
		labels["weight"] = strconv.FormatUint(uint64(i.Weight), 10)
	}
	for _, name := range sortedKeys(i.Metadata) {
		label := "metadata_" + labelName(name)
		labels[label] = cmp.Or(labels[label], i.Metadata[name])
	}
	named := make(map[string]string, len(labels))
	for name, value := range labels {
		if value != "" {
			named[metaLabel+name] = strings.ToValidUTF8(value, "\ufffd")
		}
	}
	return named
}

// labelName makes a name part of a label's, as Prometheus does.
func labelName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

// catalog is what etcd holds under some ranges, and what Prometheus is told of it. It is safe for concurrent use.
type catalog struct {
	port metricsPort

	mu    sync.Mutex
	parts []map[string]entry // for each range, nil until it has been listed
	text  []byte             // nil: to be made
}

func newCatalog(ranges int, port metricsPort) *catalog {
	return &catalog{port: port, parts: make([]map[string]entry, ranges)}
}

// replace takes in all entries of a range.
func (c *catalog) replace(part int, entries []entry) {
	all := make(map[string]entry, len(entries))
	for _, e := range entries {
		all[e.key] = bounded(e)
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
			c.parts[part][string(event.Kv.Key)] = bounded(entryOf(event.Kv))
		}
	}
	c.text = nil
}

// bounded returns an entry without the rest of a value that is too long to be read.
func bounded(e entry) entry {
	if len(e.value) > endpoint.MaxValue && !strings.HasPrefix(e.key, configPrefix) {
		e.value = bytes.Clone(e.value[:endpoint.MaxValue+1])
	}
	return e
}

// json returns the targets. known is false until every range has been listed once.
func (c *catalog) json() (text []byte, known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.parts, func(part map[string]entry) bool { return part == nil }) {
		return nil, false, nil
	}
	if c.text == nil {
		var entries []entry
		for _, part := range c.parts {
			for _, key := range sortedKeys(part) {
				entries = append(entries, part[key])
			}
		}
		if c.text, err = marshal(targetsOf(surveyAll(entries), c.port), ""); err != nil {
			return nil, true, err
		}
	}
	return c.text, true, nil
}
