package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

var command = regexp.MustCompile("(?m)^\\| `go (?:run|test) \\./(\\w+)`")

// TestExamples compares the table in the examples' README with the directories there. Each has a test
// that runs it.
func TestExamples(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(examples, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, match := range command.FindAllStringSubmatch(string(readme), -1) {
		listed = append(listed, match[1])
	}
	slices.Sort(listed)
	tests, err := filepath.Glob(filepath.Join(examples, "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range tests {
		name := filepath.Base(filepath.Dir(file))
		if name != "docs" && name != "readme" && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if !slices.Equal(listed, found) {
		t.Errorf("the README lists %q, and there are %q", listed, found)
	}
}
