//go:build unix

package rehearsal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

const repository = "../../.."

// command is a command on a page that fetches a module of this repository.
type command struct {
	page string // its file name
	text string // without the prompt and the & behind it
}

var (
	continued = regexp.MustCompile(`\\\n\s*`)
	fetching  = regexp.MustCompile("(?m)(?:[A-Z]+=\\S+ )*\\bgo (?:install|get|run|mod download)\\b[^\n`&]*" + regexp.QuoteMeta(modules.Root) + "[^\n`&]*")
)

// commands returns the commands of README and docs, in code blocks and in prose.
func commands(t *testing.T) (all []command) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range fetching.FindAllString(continued.ReplaceAllString(string(text), " "), -1) {
			all = append(all, command{filepath.Base(page), strings.TrimSpace(found)})
		}
	}
	return all
}

// kind says how to run a command, and how to check what it did.
type kind struct {
	name    string
	pattern *regexp.Regexp
	project bool   // whether it runs in a module that init has written
	check   string // the command that prints the version afterwards; "" if the quickstart runs it
}

// checksum is the command to run after init without go generate, as setup.md says.
const checksum = "go mod download " + modules.Root

var own = regexp.QuoteMeta(modules.Root)

// kinds has a kind for every command, so that new ones are rehearsed, too.
var kinds = []kind{
	{"install etcdrpc", regexp.MustCompile(`^go install ` + own + `/cmd/etcdrpc@latest$`), false, `"$GOBIN/etcdrpc" version`},
	{"install the plugin of the project", regexp.MustCompile(`^GOBIN=\$PWD/bin go install ` + own + `/cmd/protoc-gen-go-etcd$`), true, `bin/protoc-gen-go-etcd --version`},
	{"get the plugin", regexp.MustCompile(`^go get -tool ` + own + `/cmd/protoc-gen-go-etcd@latest$`), true, `go tool protoc-gen-go-etcd --version`},
	{"get the module", regexp.MustCompile(`^go get ` + own + `@latest$`), true, `go list -m ` + modules.Root},
	{"get the module for Connect", regexp.MustCompile(`^go get ` + own + `/connectetcd@latest$`), true, `go list -m ` + modules.Root + `/connectetcd`},
	{"add the checksum", regexp.MustCompile(`^` + checksum + `$`), true, `go tool protoc-gen-go-etcd --version`},
	// The quickstart runs these two.
	{"init", regexp.MustCompile(`^go run ` + own + `/cmd/protoc-gen-go-etcd@latest init example.com/greeter$`), false, ""},
	{"etcd", regexp.MustCompile(`^go run ` + own + `/etcdtest/cmd/etcd@latest$`), false, ""},
}

func (c command) kind() (kind, bool) {
	for _, k := range kinds {
		if k.pattern.MatchString(c.text) {
			return k, true
		}
	}
	return kind{}, false
}

// TestCommandsAreKnown checks that each of the documents' commands has a kind, and each kind a command.
func TestCommandsAreKnown(t *testing.T) {
	found := make(map[string]bool)
	for _, c := range commands(t) {
		k, ok := c.kind()
		if !ok {
			t.Errorf("%s has %q, which has no kind: add one, so that it is rehearsed", c.page, c.text)
		}
		found[k.name] = true
		if k.check == "" && !strings.Contains(quickstart(t), c.text) {
			t.Errorf("%s has %q, which the quickstart does not run", c.page, c.text)
		}
	}
	for _, k := range kinds {
		if !found[k.name] {
			t.Errorf("no page has a command to %s", k.name)
		}
	}
}
