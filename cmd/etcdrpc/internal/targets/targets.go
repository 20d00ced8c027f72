// Package targets tells Prometheus where the instances are, in the form of its http_sd and file_sd.
package targets

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Group is what Prometheus reads by http_sd and file_sd.
type Group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// metaLabel begins the names of labels that Prometheus drops after relabeling.
const metaLabel = "__meta_etcdrpc_"

// Port says at which port the metrics of an instance are. The zero value is the instance's own.
type Port struct {
	Number   int
	Metadata string // the piece of metadata that says it
}

// of returns where the metrics of an instance are. ok is false if it does not say.
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

// Of returns a group for each instance of the services under a prefix, as clients see them: one an address, and none that its
// owner is withdrawing.
func Of(services []*survey.Service, prefix string, port Port) []Group {
	groups := []Group{}
	for _, s := range services {
		if !s.Evident() && !leased(s) && s.Key != strings.TrimSuffix(prefix, "/") {
			continue // a setting that happens to be an address
		}
		for _, i := range s.Merged().Instances {
			target, ok := port.of(&i.Endpoint)
			if !ok {
				continue
			}
			groups = append(groups, Group{[]string{target}, targetLabels(&i)})
		}
	}
	return groups
}

// leased reports whether an instance of a service is on a lease.
func leased(s *survey.Service) bool {
	return slices.ContainsFunc(s.Instances, func(i survey.Instance) bool { return i.Entry.Lease != 0 })
}

// targetLabels returns what is known of an instance, without what is empty. Of several pieces of metadata whose names become
// one, it has the first by name.
func targetLabels(i *survey.Instance) map[string]string {
	labels := map[string]string{
		"key": i.Service, "instance": i.Instance, "address": i.Addr, "layout": i.Layout.String(), "state": string(i.State),
		"version": i.Version, "zone": i.Zone,
	}
	if i.Weight > 0 {
		labels["weight"] = strconv.FormatUint(uint64(i.Weight), 10)
	}
	for _, name := range slices.Sorted(maps.Keys(i.Metadata)) {
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
