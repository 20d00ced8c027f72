package plan

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// Changelog is the file that Roll changes.
const Changelog = "CHANGELOG.md"

const unreleased = "## Unreleased\n"

var (
	section    = regexp.MustCompile(`(?m)^## `)
	item       = regexp.MustCompile(`(?m)^- \S`)
	definition = regexp.MustCompile(`(?m)^\[v[^\]]+\]: `)
	// untagged is the paragraph that the first release makes untrue.
	untagged = regexp.MustCompile(`(?m)^Nothing is tagged yet\.\n\n`)
)

// roll makes what is listed as unreleased the section of a version.
func roll(text, version, date string) (string, error) {
	before, rest, found := strings.Cut("\n"+text, "\n"+unreleased)
	if !found {
		return "", fmt.Errorf("%s has no line %q", Changelog, strings.TrimSpace(unreleased))
	}
	if strings.Contains(text, "\n## ["+version+"]") {
		return "", fmt.Errorf("%s has a section %s already", Changelog, version)
	}
	body, tail := rest, ""
	if end := sectionEnd(rest); end >= 0 {
		body, tail = rest[:end], rest[end:]
	}
	if !item.MatchString(body) {
		return "", errors.New(`the section "Unreleased" of ` + Changelog + " lists nothing: there is nothing to release")
	}
	body = untagged.ReplaceAllString(body, "")
	rolled := strings.TrimPrefix(before, "\n") + "\n" + unreleased + "\n## [" + version + "] - " + date + "\n" + body + tail
	return define(strings.TrimPrefix(rolled, "\n"), version), nil
}

// sectionEnd returns where the next section or the definitions of links begin, or -1.
func sectionEnd(text string) int {
	end := -1
	for _, pattern := range []*regexp.Regexp{section, definition} {
		if at := pattern.FindStringIndex(text); at != nil && (end < 0 || at[0] < end) {
			end = at[0]
		}
	}
	return end
}

// define has the heading of a version link to its release.
func define(text, version string) string {
	line := fmt.Sprintf("[%s]: https://%s/releases/tag/%s\n", version, modules.Root, version)
	if first := definition.FindStringIndex(text); first != nil {
		return text[:first[0]] + line + text[first[0]:]
	}
	return strings.TrimRight(text, "\n") + "\n\n" + line
}
