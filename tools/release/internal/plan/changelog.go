package plan

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// Changelog is the changelog's path in the repository.
const Changelog = "CHANGELOG.md"

const unreleased = "## Unreleased\n"

var (
	section    = regexp.MustCompile(`(?m)^## `)
	item       = regexp.MustCompile(`(?m)^- \S`)
	released   = regexp.MustCompile(`(?m)^## \[(v[^\]]+)\]`)
	definition = regexp.MustCompile(`(?m)^\[v[^\]]+\]: `)
	// untagged is a paragraph that is no longer true after the first release.
	untagged = regexp.MustCompile(`(?m)^Nothing is tagged yet\.\n\n`)
)

// roll moves what is listed as unreleased to a section of its own for version. Only a version that follows its candidates may
// list nothing.
func roll(text, version, date string) (string, error) {
	if strings.Contains(text, "\r\n") {
		return "", fmt.Errorf(`%s is committed with lines that end in \r\n instead of \n: commit it with \n alone`, Changelog)
	}
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
	switch {
	case item.MatchString(body):
	case strings.Contains("\n"+tail, "\n## ["+version+"-"):
		body += "The changes are those of its candidates, below.\n\n"
	default:
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

// define adds the link definition that the heading of version refers to.
func define(text, version string) string {
	line := fmt.Sprintf("[%s]: https://%s/releases/tag/%s\n", version, modules.Root, version)
	if first := definition.FindStringIndex(text); first != nil {
		return text[:first[0]] + line + text[first[0]:]
	}
	return strings.TrimRight(text, "\n") + "\n\n" + line
}
