package main

import (
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// groupEntries groups the entries of a prefix by service. elsewhere holds the keys of services that do not begin with the
// prefix, though some of their entries do.
func groupEntries(prefix string, entries []entry) (groups map[string][]entry, elsewhere []string) {
	groups = make(map[string][]entry)
	prefix = strings.TrimSuffix(prefix, "/")
	others := make(map[string]bool)
	suffixed := suffixedKeys(entries)
	for _, e := range entries {
		if strings.HasPrefix(e.key, configPrefix) {
			continue
		}
		key := ownerOf(e)
		if stem, ok := strayStem(e, suffixed); ok && (suffixed[stem] || len(key) < len(prefix) || key == "") {
			key = stem
		}
		if key == "" || !strings.HasPrefix(key, prefix) {
			others[key] = true
			continue
		}
		groups[key] = append(groups[key], e)
	}
	return groups, sortedKeys(others)
}

// suffixedKeys returns the keys of services that have an entry in the lease suffix layout.
func suffixedKeys(entries []entry) map[string]bool {
	keys := make(map[string]bool)
	for _, e := range entries {
		if key := ownerOf(e); key != "" && decode(anyLayout, key, e).layout == endpoint.LeaseSuffix {
			keys[key] = true
		}
	}
	return keys
}

// strayStem returns the key of the service that an entry seems to belong to if its key ends in a lease id, but it hangs
// on another lease or on none. The key is one of known, or else what precedes the digits.
func strayStem(e entry, known map[string]bool) (string, bool) {
	stem := strings.TrimRight(e.key, "0123456789")
	if stem == "" || strings.HasSuffix(stem, "/") || !(&service{key: stem}).isStray(e) {
		return "", false
	}
	for n := len(e.key) - leaseDigits; n > len(stem); n-- {
		if known[e.key[:n]] {
			return e.key[:n], true
		}
	}
	return stem, true
}
