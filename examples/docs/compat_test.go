package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompat finds the Go that needs a framework in the tests that run it beside that framework, whose service is another.
func TestCompat(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "compat", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.WriteString(unindented(string(text)))
	}
	found := 0
	ours := strings.NewReplacer("&greeterv1.GreeterService_EtcdServiceDesc", "user", "greeterv1.GreeterService", "basic.Greeter",
		"GreeterService", "Greeter")
	for _, p := range pages(t) {
		for _, b := range p.blocks(t) {
			if b.language != "go" || b.kind != "compat" {
				continue
			}
			found++
			if !strings.Contains(source.String(), "\n"+unindented(ours.Replace(b.text))) {
				t.Errorf("%s:%d: no file of compat has this code", b.page, b.line)
			}
		}
	}
	if found == 0 {
		t.Error("no page has such code")
	}
}

// unindented returns lines without the white space around them, and without what gofmt puts before a comment.
func unindented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}
