// Package targets lists instances as Prometheus targets, in the format of
// http_sd and file_sd.
package targets

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Group is a target group of http_sd and file_sd.
type Group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// metaLabel is the prefix of labels that Prometheus drops after relabeling.
const metaLabel = "__meta_etcdrpc_"

// Port selects the metrics port of an instance. The zero value selects the port
// of the instance's address.
type Port struct {
	Number   int
	Metadata string // name of the metadata that holds the port
}

// of returns the address of an instance's metrics. ok is false if the instance
// has no valid port for metrics.
func (p Port) of(e *endpoint.Endpoint) (target string, ok bool) {
	port := strconv.Itoa(p.Number)

	switch {
	case p.Metadata != "":
		port = strings.TrimSpace(e.Metadata[p.Metadata])
	case p.Number == 0:
		return e.Addr, true
	}

	host, _, err := net.SplitHostPort(e.Addr)
	if err != nil || !servicekey.IsPort(port) {
		return "", false
	}

	return net.JoinHostPort(host, port), true
}

// Of returns a group for each instance of the services under prefix, as clients
// see them.
func Of(services []*inventory.Service, prefix string, port Port) []Group {
	groups := []Group{}
	for _, s := range services {
		if !s.Evident() && s.Key != strings.TrimSuffix(prefix, "/") {
			continue // the entries may be settings with an address
		}

		for _, i := range s.Merged().Instances {
			if s.Denied != nil { // the instance may be drained
				i.State = ""
			}

			target, ok := port.of(&i.Endpoint)
			if !ok {
				continue
			}

			groups = append(groups, Group{[]string{target}, targetLabels(&i)})
		}
	}

	return groups
}

// targetLabels returns the non-empty labels of an instance. If several names of
// metadata become one label, the first by name wins.
func targetLabels(i *inventory.Instance) map[string]string {
	labels := map[string]string{
		"key":      i.Service,
		"instance": i.Instance,
		"address":  i.Addr,
		"layout":   i.Layout.String(),
		"state":    string(i.State),
		"version":  i.Version,
		"zone":     i.Zone,
	}
	if i.Weight > 0 {
		labels["weight"] = strconv.FormatUint(uint64(i.Weight), 10)
	}

	for _, name := range slices.Sorted(maps.Keys(i.Metadata)) {
		label := "metadata_" + strings.Map(inLabel, name)
		labels[label] = cmp.Or(labels[label], i.Metadata[name])
	}

	out := make(map[string]string, len(labels))
	for name, value := range labels {
		if value != "" {
			out[metaLabel+name] = strings.ToValidUTF8(value, "\ufffd")
		}
	}

	return out
}

// inLabel returns a character that a label's name may have: r or, as Prometheus
// does, an underscore.
func inLabel(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}

	return '_'
}

// Follower keeps the targets under a prefix up to date with etcd, and serves
// them to Prometheus.
type Follower struct {
	Prefix string
	Port   Port
	text   atomic.Pointer[[]byte] // nil until the first read
}

// Run follows etcd until ctx ends. It writes errors and unreadable ranges to
// notes.
func (f *Follower) Run(ctx context.Context, s *store.Store, notes io.Writer) {
	note := output.Once(notes)
	read := func(ctx context.Context) (*store.Snapshot, error) {
		return s.Under(ctx, f.Prefix)
	}

	s.Follow(ctx, read, func(n *store.Snapshot, err error) {
		var text []byte

		if err == nil {
			note(n.Note)
			text, err = output.Marshal(Of(n.Services, f.Prefix, f.Port), "")
		}

		if err != nil {
			note(fmt.Sprintf("etcdrpc: %s; trying again", err))
			return
		}

		f.text.Store(&text)
	})
}

// ServeHTTP implements [http.Handler].
func (f *Follower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text := f.text.Load()
	if text == nil { // on an error Prometheus keeps its targets
		http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(*text))
}
