package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

// TestFilesAreTheQuickstarts compares the files in the README with those that init writes, which are those of
// examples/quickstart.
func TestFilesAreTheQuickstarts(t *testing.T) {
	written, err := quickstart.Project{Module: "example.com/greeter", Version: "v1.0.0"}.Files()
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, block := range section(t, "Quickstart") {
		if block.file == "" {
			continue
		}
		files++
		if want, ok := written[block.file]; !ok || block.text != want {
			t.Errorf("%s differs from examples/quickstart: the README has\n%s", block.file, block.text)
		}
	}
	if files == 0 {
		t.Error("found no files in the quickstart")
	}
}

// quoted is a fenced block of the README: a file's content, or commands if file is "".
type quoted struct{ file, text string }

var (
	nextSection = regexp.MustCompile(`(?m)^## `)
	quote       = regexp.MustCompile("(?ms)(?:^`([^`\n]+)`:\n\n)?^```(\\w+)\n(.*?)^```$")
)

// section is what the README's section of that name has in fenced blocks.
func section(t *testing.T, name string) (blocks []quoted) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(readme), "\n## "+name+"\n")
	if !found {
		t.Fatalf("the README has no section %q", name)
	}
	if next := nextSection.FindStringIndex(text); next != nil {
		text = text[:next[0]]
	}
	for _, match := range quote.FindAllStringSubmatch(text, -1) {
		file, language, content := match[1], match[2], match[3]
		if (file == "") != (language == "sh") {
			t.Fatalf("neither commands nor a named file: %q", match[0])
		}
		blocks = append(blocks, quoted{file: file, text: content})
	}
	return blocks
}
