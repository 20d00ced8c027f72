// Package docs checks README.md and the pages in docs: links, names of tests,
// messages, and code blocks, which compile, generate or run.
package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

const repository = "../.."

// block is a fenced block of a page.
type block struct {
	page string
	line int

	// all words after the fence: integration/generator runs "sh setup", compat
	// has the code of "go compat"
	language string

	text string
}

// page is a page of the documentation. Its name is its path in the repository.
type page struct{ name, text string }

// pages returns the pages that match a pattern, by default those in docs.
func pages(t *testing.T, patterns ...string) (all []page) {
	t.Helper()

	if len(patterns) == 0 {
		patterns = []string{"docs/*.md", "docs/measured/*.md"}
	}

	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no page matches %s: %v", pattern, err)
		}

		for _, file := range files {
			name := filepath.Join(filepath.Dir(pattern), filepath.Base(file))
			all = append(all, page{filepath.ToSlash(name), read(t, file)})
		}
	}

	return all
}

func read(t *testing.T, file string) string {
	t.Helper()

	text, err := os.ReadFile(file)
	must.Succeed(t, err)

	return string(text)
}

var fence = regexp.MustCompile("^( *)```(.*)$")

// unseen matches a hidden command, which puts into etcd what readers already
// have there.
var unseen = regexp.MustCompile("^ *<!-- sh: (.*) -->$")

// blocks returns the fenced blocks of a page, without the indent of a list
// around them.
func (p page) blocks(t *testing.T) (all []block) {
	t.Helper()

	var open *block
	indent := ""
	for i, line := range strings.Split(p.text, "\n") {
		match := fence.FindStringSubmatch(line)
		before := unseen.FindStringSubmatch(line)
		if before != nil && open == nil {
			all = append(all,
				block{page: p.name, line: i + 1, language: "sh", text: before[1] + "\n"})
		}

		switch {
		case match == nil && open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case match == nil:
		case open != nil:
			all = append(all, *open)
			open = nil
		default:
			indent = match[1]
			open = &block{page: p.name, line: i + 1, language: match[2]}
		}
	}

	if open != nil {
		t.Fatalf("%s:%d: the block has no end", p.name, open.line)
	}

	return all
}

// all returns the blocks of a language in all pages.
func all(t *testing.T, language string) (found []block) {
	t.Helper()

	for _, p := range pages(t) {
		for _, b := range p.blocks(t) {
			if b.language == language {
				found = append(found, b)
			}
		}
	}

	if len(found) == 0 {
		t.Fatalf("no page has a block of %s", language)
	}

	return found
}

// TestLanguages requires a test for every block except output of programs.
func TestLanguages(t *testing.T) {
	checked := []string{
		"go", "proto", "sh", "json", "json endpoint", "yaml", "text", "mermaid",
		"sh setup", "proto setup", "go compat",
	}
	for _, p := range pages(t) {
		for _, b := range p.blocks(t) {
			if !slices.Contains(checked, b.language) {
				t.Errorf("%s:%d: no test checks a block of %q", b.page, b.line, b.language)
			}
		}
	}
}

func TestYAML(t *testing.T) {
	for _, b := range all(t, "yaml") {
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(b.text), &content); err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
)

// TestLinks follows the links within the repository.
func TestLinks(t *testing.T) {
	for _, p := range pages(t, "*.md", "docs/*.md", "docs/measured/*.md") {
		text := fenced.ReplaceAllString(p.text, "")
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") {
				continue
			}

			file := p.name
			if target != "" {
				file = filepath.Join(filepath.Dir(p.name), target)
			}

			checkLink(t, p.name, match[1], filepath.Join(repository, file), anchor)
		}
	}
}

func checkLink(t *testing.T, from, link, file, anchor string) {
	t.Helper()

	if _, err := os.Stat(file); err != nil {
		t.Errorf("%s links to %s: %v", from, link, err)
		return
	}

	if anchor == "" {
		return
	}

	text := fenced.ReplaceAllString(read(t, file), "")
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		words := unsluggable.ReplaceAllString(strings.ToLower(match[1]), "")
		if strings.ReplaceAll(words, " ", "-") == anchor { // as on GitHub
			return
		}
	}

	t.Errorf("%s links to %s: no heading of that name", from, link)
}

var unsluggable = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

var testName = regexp.MustCompile("`(Test[A-Z]\\w*)`")

// TestNamedTests checks that each test that a page names exists. A page may
// give only the first part of a name.
func TestNamedTests(t *testing.T) {
	source := sources(t, "_test.go", repository)
	for _, p := range pages(t) {
		for _, match := range testName.FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(source, "func "+match[1]) {
				t.Errorf("%s names %s, which does not exist", p.name, match[1])
			}
		}
	}
}

// sources returns the concatenated files in dir with a suffix.
func sources(t *testing.T, suffix, dir string) string {
	t.Helper()

	var text strings.Builder
	err := filepath.WalkDir(dir, func(file string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, suffix) {
			text.WriteString(read(t, file))
		}

		return err
	})

	must.Succeed(t, err)

	return text.String()
}

// message matches a row of the troubleshooting page's tables that quotes a
// message.
var message = regexp.MustCompile("(?m)^\\| (?:(\\w+): )?`(.+?)` \\|")

// TestMessages finds the messages of the troubleshooting page in the source,
// where names and values are verbs of package fmt.
func TestMessages(t *testing.T) {
	source := map[string]string{
		"": sources(t, ".go", repository+"/runtime") + sources(t, ".go", repository+"/internal"),
	}
	for from, module := range map[string]string{
		"gRPC":     "google.golang.org/grpc",
		"protobuf": "google.golang.org/protobuf",
		"etcd":     "go.etcd.io/etcd/api/v3",
	} {
		output, err := exec.CommandContext(
			t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			t.Fatalf("go list -m %s: %v", module, err)
		}

		source[from] = sources(t, ".go", strings.TrimSpace(string(output)))
	}

	page := read(t, filepath.Join(repository, "docs", "troubleshooting.md"))
	messages := message.FindAllStringSubmatch(page, -1)
	if len(messages) < 35 {
		t.Fatalf("found %d messages, want at least 35", len(messages))
	}

	for _, match := range messages {
		from := match[1]
		quoted := match[2]

		if from == "buf" {
			continue // integration/generator provokes these
		}

		if from == "Go" {
			// The compiler's message ends in a missing name. Generated code
			// uses this name, so the source must have it.
			from = ""
			quoted = quoted[strings.LastIndex(quoted, ".")+1:]
			quoted = strings.TrimSuffix(quoted, "…")
		}

		parts := strings.Split(quoted, "…")
		for i, part := range parts {
			parts[i] = strings.ReplaceAll(regexp.QuoteMeta(part), `"`, `\\?"`)
		}

		pattern := regexp.MustCompile(strings.Join(parts, `(?:%[+#.0-9]*[a-z])+`))
		if !pattern.MatchString(source[from]) {
			t.Errorf("the source has no message %q", match[2])
		}
	}
}
