package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

// TestLinks follows every link of the documentation into the repository.
func TestLinks(t *testing.T) {
	var pages []string
	for _, dir := range []string{"", "docs", "docs/measured"} {
		found, err := filepath.Glob(filepath.Join(repository, dir, "*.md"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages in %q: %v", dir, err)
		}
		pages = append(pages, found...)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllSubmatch(text, -1) {
			target := string(match[1])
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			}
		}
	}
}
