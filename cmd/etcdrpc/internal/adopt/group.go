package adopt

import (
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// groupEntries groups the entries of a prefix by service. elsewhere holds the keys of services that do not begin with the
// prefix, though some of their entries do.
func groupEntries(prefix string, entries []survey.Entry) (groups map[string][]survey.Entry, elsewhere []string) {
	groups = make(map[string][]survey.Entry)
	prefix = strings.TrimSuffix(prefix, "/")
	others := make(map[string]bool)
	owner := survey.Owners(entries)
	for _, e := range entries {
		if strings.HasPrefix(e.Key, survey.ConfigPrefix) {
			continue
		}
		key := owner(e)
		if stem, ok := survey.StrayStem(e); ok && key == survey.OwnerOf(e) && (len(key) < len(prefix) || key == "") {
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
