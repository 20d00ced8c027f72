package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// filter is what an entry must have to be shown.
type filter struct {
	name    string // of a column or a piece of metadata
	not     bool   // it must not have that
	pattern *regexp.Regexp
}

// parseFilters reads NAME=PATTERN and NAME!=PATTERN, where * and ? in a pattern stand for any text and any character.
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

func (f *filter) passes(i *survey.Instance) bool {
	return f.pattern.MatchString(fieldOf(i, f.name)) != f.not
}

// unsaid returns what the view is narrowed to or ordered by though no entry says it, as with a mistyped name.
func (v *view) unsaid() (names []string) {
	asked := []string{v.sort}
	for _, f := range v.filters {
		asked = append(asked, f.name)
	}
	entries := v.all()
	for _, name := range asked {
		said := func(i *survey.Instance) bool { return fieldOf(i, name) != "" }
		if name != "" && len(entries) > 0 && !slices.ContainsFunc(entries, said) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
