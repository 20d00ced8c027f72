package adopt

import (
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// groupEntries groups the entries of a prefix by service. elsewhere holds the keys of services that do not begin with the
// prefix, though some of their entries do.
func groupEntries(prefix string, entries []survey.Entry) (groups map[string][]survey.Entry, elsewhere []string) {
	groups = make(map[string][]survey.Entry)
	prefix = strings.TrimSuffix(prefix, "/")
	others := make(map[string]bool)
	suffixed := suffixedKeys(entries)
	for _, e := range entries {
		if strings.HasPrefix(e.Key, survey.ConfigPrefix) {
			continue
		}
		key := survey.OwnerOf(e)
		if stem, ok := strayStem(e, suffixed); ok && (suffixed[stem] || len(key) < len(prefix) || key == "") {
			key = stem
		}
		if key == "" || !strings.HasPrefix(key, prefix) {
			others[key] = true
			continue
		}
		groups[key] = append(groups[key], e)
	}
	return groups, slices.Sorted(maps.Keys(others))
}

// suffixedKeys returns the keys of services that have an entry in the lease suffix layout.
func suffixedKeys(entries []survey.Entry) map[string]bool {
	keys := make(map[string]bool)
	for _, e := range entries {
		if key := survey.OwnerOf(e); key != "" && survey.Decode(survey.AnyLayout, key, e).Layout == endpoint.LeaseSuffix {
			keys[key] = true
		}
	}
	return keys
}

// strayStem returns the key of the service that an entry seems to belong to if its key ends in a lease id, but it hangs
// on another lease or on none. The key is one of known, or else what precedes the digits.
func strayStem(e survey.Entry, known map[string]bool) (string, bool) {
	stem := strings.TrimRight(e.Key, "0123456789")
	if stem == "" || strings.HasSuffix(stem, "/") || !(&survey.Service{Key: stem}).IsStray(e) {
		return "", false
	}
	for n := len(e.Key) - survey.LeaseDigits; n > len(stem); n-- {
		if known[e.Key[:n]] {
			return e.Key[:n], true
		}
	}
	return stem, true
}
