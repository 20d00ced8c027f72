package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// filter is a condition on an entry.
type filter struct {
	name    string // of a column or a piece of metadata
	not     bool   // the pattern must not match
	pattern *regexp.Regexp
}

// parseFilters parses NAME=PATTERN and NAME!=PATTERN. In a pattern * matches any text and ? any character.
func parseFilters(texts []string) (all []filter, err error) {
	wild := strings.NewReplacer(`\*`, ".*", `\?`, ".")
	for _, text := range texts {
		name, pattern, ok := strings.Cut(text, "=")
		name, not := strings.CutSuffix(name, "!")
		if !ok || name == "" {
			return nil, fmt.Errorf("--where: %.60q is not a condition: want NAME=PATTERN or NAME!=PATTERN, such as zone=eu-1a", text)
		}
		compiled, err := regexp.Compile("(?s)^" + wild.Replace(regexp.QuoteMeta(pattern)) + "$")
		if err != nil {
			return nil, fmt.Errorf("--where: %.60q: %w", text, err)
		}
		all = append(all, filter{name, not, compiled})
	}
	return all, nil
}

func (f *filter) passes(i *inventory.Instance) bool {
	return f.pattern.MatchString(fieldOf(i, f.name)) != f.not
}

// unknownNames returns filter names that no entry has, such as mistyped ones.
func unknownNames(entries []*inventory.Instance, filters []filter) (names []string) {
	for _, f := range filters {
		has := func(i *inventory.Instance) bool { return fieldOf(i, f.name) != "" }
		if len(entries) > 0 && !slices.ContainsFunc(entries, has) && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names
}
