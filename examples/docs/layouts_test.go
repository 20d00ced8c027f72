package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// linkedTest is a test that a page names together with its file.
var linkedTest = regexp.MustCompile("\\[`(Test\\w+)`\\]\\(([^)]+)\\)")

// The columns of the table of layouts.
const (
	layoutColumn = iota
	systemColumn
	_ // the key
	readColumn
	writtenColumn
	columns = writtenColumn + 1
)

// TestLayouts reads the table that has the tests of each layout, and finds every layout in it, with a test for either
// direction in the file that it names.
func TestLayouts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "layouts.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| layout | system | key |")
	if !ok {
		t.Fatal("there is no such table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	missing := map[string]bool{"`json_layout`": true}
	for number, name := range discoveryv1.Layout_name {
		if number != 0 {
			missing["`"+strings.TrimPrefix(name, "LAYOUT_")+"`"] = true
		}
	}
	for _, row := range strings.Split(table, "\n")[2:] {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) != columns {
			t.Errorf("%d columns in %s", len(cells), row)
			continue
		}
		delete(missing, cells[layoutColumn])
		checkLinkedTest(t, cells[systemColumn], cells[readColumn])
		if cells[layoutColumn] != "read only" {
			checkLinkedTest(t, cells[systemColumn], cells[writtenColumn])
		}
	}
	for name := range missing {
		t.Errorf("no row is of the layout %s", name)
	}
}

// checkLinkedTest looks for the test that a cell is to name.
func checkLinkedTest(t *testing.T, system, cell string) {
	t.Helper()
	match := linkedTest.FindStringSubmatch(cell)
	if match == nil {
		t.Errorf("%s: %q names no test with its file", system, cell)
		return
	}
	source, err := os.ReadFile(filepath.Join(repository, "docs", match[2]))
	if err != nil {
		t.Errorf("%s: %v", system, err)
	} else if !strings.Contains(string(source), "func "+match[1]+"(t *testing.T)") {
		t.Errorf("%s: there is no %s in %s", system, match[1], match[2])
	}
}
