package worstday

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// known is the cells in which users asked for the difference, by regular expressions of a row and a fault. The heading of the page
// says so.
var known = []struct{ row, fault, page, heading, why string }{}

func TestKnown_PagesHaveHeadings(t *testing.T) {
	for _, k := range known {
		page, err := os.ReadFile(filepath.Join("../../docs", k.page))
		if err != nil || !slices.ContainsFunc(strings.Split(string(page), "\n"), func(line string) bool {
			return strings.TrimLeft(line, "# ") == k.heading && strings.HasPrefix(line, "#")
		}) {
			t.Errorf("%s under %s: no heading %q in docs/%s (%v)", k.row, k.fault, k.heading, k.page, err)
		}
	}
}
