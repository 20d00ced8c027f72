package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "../.."

// block is a fenced block of a page.
type block struct {
	page     string
	line     int
	language string
	kind     string // what follows the language: "endpoint", "setup" for what integration/generator runs, or "compat" for what compat does
	text     string
}

// page is a page of the documentation. Its name is its path in the repository.
type page struct{ name, text string }

// pages returns the pages in docs, which are all but those at the root.
func pages(t *testing.T) []page {
	t.Helper()
	return append(pagesIn(t, "docs"), pagesIn(t, "docs/measured")...)
}

func pagesIn(t *testing.T, dir string) (all []page) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, dir, "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found no pages in %s: %v", dir, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{filepath.ToSlash(filepath.Join(dir, filepath.Base(file))), string(text)})
	}
	return all
}

var fence = regexp.MustCompile("^( *)```(.*)$")

// unseen is a command that stands for what readers have in etcd already.
var unseen = regexp.MustCompile("^ *<!-- sh: (.*) -->$")

// blocks are the fenced blocks of a page. Those within a list are taken out of it. A page that is
// generated has none: its source is checked where that is generated.
func (p page) blocks(t *testing.T) (all []block) {
	t.Helper()
	if strings.Contains(p.text, "<!-- Made of ") {
		return nil
	}
	var open *block
	indent := ""
	for i, line := range strings.Split(p.text, "\n") {
		match := fence.FindStringSubmatch(line)
		if before := unseen.FindStringSubmatch(line); before != nil && open == nil {
			all = append(all, block{page: p.name, line: i + 1, language: "sh", text: before[1] + "\n"})
		}
		switch {
		case match == nil && open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case match == nil:
		case open != nil:
			all = append(all, *open)
			open = nil
		default:
			language, kind, _ := strings.Cut(match[2], " ")
			indent = match[1]
			open = &block{page: p.name, line: i + 1, language: language, kind: kind}
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", p.name, open.line)
	}
	return all
}

// all are the blocks of a language in all pages that are checked here.
func all(t *testing.T, language string) (found []block) {
	t.Helper()
	for _, p := range pages(t) {
		for _, b := range p.blocks(t) {
			if b.language == language && b.kind != "setup" && b.kind != "compat" {
				found = append(found, b)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("found no %s", language)
	}
	return found
}

// TestLanguages makes sure that every block is of a kind that a test looks at. What programs print is
// text.
func TestLanguages(t *testing.T) {
	checked := map[string]bool{
		"go": true, "proto": true, "sh": true, "json": true, "json endpoint": true, "yaml": true, "text": true, "mermaid": true,
		"sh setup": true, "proto setup": true, "go compat": true,
	}
	for _, p := range pages(t) {
		for _, b := range p.blocks(t) {
			if kind := strings.TrimSpace(b.language + " " + b.kind); !checked[kind] {
				t.Errorf("%s:%d: a block of %q, which no test looks at", b.page, b.line, kind)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
)

// TestLinks follows the links that stay in the repository.
func TestLinks(t *testing.T) {
	for _, p := range append(pages(t), pagesIn(t, ".")...) {
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(p.text, ""), -1) {
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
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
		if slug(match[1]) == anchor {
			return
		}
	}
	t.Errorf("%s links to %s: no heading of that name", from, link)
}

var unsluggable = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

// slug is the anchor that GitHub gives a heading.
func slug(heading string) string {
	return strings.ReplaceAll(unsluggable.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

var testName = regexp.MustCompile("`(Test[A-Z]\\w*)`")

// TestNamedTests looks for the tests that pages name, or that begin with what they name.
func TestNamedTests(t *testing.T) {
	source := sources(t, "_test.go")
	for _, p := range pages(t) {
		for _, match := range testName.FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(source, "func "+match[1]) {
				t.Errorf("%s names %s, which there is not", p.name, match[1])
			}
		}
	}
}

// sources are all files of the repository whose names end so, one after the other.
func sources(t *testing.T, suffix string, dirs ...string) string {
	t.Helper()
	var text strings.Builder
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(file string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(file, suffix) {
				return err
			}
			content, err := os.ReadFile(file)
			text.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}
