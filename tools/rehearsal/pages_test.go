//go:build unix

package rehearsal

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	own       = regexp.MustCompile(regexp.QuoteMeta(root) + "[^\\s@`]*")
	continued = regexp.MustCompile(`\\\n\s*`)
	fetching  = regexp.MustCompile("(?m)(?:[A-Z]+=\\S+ )*\\bgo (?:install|get|run|mod download)\\b[^\n`&]*" +
		own.String() + "[^\n`&]*")

	section = regexp.MustCompile(`(?ms)^## Quickstart\n(.*?)(?:^## |\z)`)
	shell   = regexp.MustCompile("(?ms)^```sh( release)?\n(.*?)^```$")
	answer  = regexp.MustCompile(`(?m)^hello, world from (\S+)$`)
)

func page(t *testing.T, file string) string {
	t.Helper()

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// commands returns the commands of README and docs, in code blocks and in
// prose, that fetch a module of this repository. It omits "go run" commands,
// but checks that the quickstart runs each of them.
func commands(t *testing.T) (all []string) {
	t.Helper()

	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range append(pages, filepath.Join(repository, "README.md")) {
		text := continued.ReplaceAllString(page(t, file), " ")
		for _, found := range fetching.FindAllString(text, -1) {
			found = strings.TrimSpace(found)
			if !strings.HasPrefix(found, "go run ") {
				all = append(all, found)
			} else if !strings.Contains(quickstart(t, true), found) {
				t.Errorf("%s has %q, which the quickstart does not run", file, found)
			}
		}
	}

	return all
}

// check returns a command that prints the version that a command has fetched or
// installed.
func check(command string) string {
	path := own.FindString(command)
	if strings.Contains(command, "go install") {
		return `go version -m "$(find "$GOBIN" bin -name ` + filepath.Base(path) + `)"`
	}

	return "go list -m $(go list -f '{{.Module.Path}}' " + path + " || echo " + path + ")"
}

// quickstart returns the commands of the README's quickstart. With release, it
// returns the blocks that need no clone. Otherwise it omits the blocks that are
// marked as needing a release.
func quickstart(t *testing.T, release bool) (commands string) {
	t.Helper()

	text := section.FindString(page(t, repository+"/README.md"))
	for _, block := range shell.FindAllStringSubmatch(text, -1) {
		ofRelease := block[1] != ""
		needsClone := strings.Contains(block[2], "../")
		if release && !needsClone || !release && !ofRelease {
			commands += block[2]
		}
	}

	if commands == "" {
		t.Fatal("the README has no quickstart")
	}

	return commands
}

// answering returns the servers that answered, in order.
func answering(output string) (servers []string) {
	for _, match := range answer.FindAllStringSubmatch(output, -1) {
		servers = append(servers, match[1])
	}

	return servers
}

func distinct(servers []string) int {
	return len(slices.Compact(slices.Sorted(slices.Values(servers))))
}
