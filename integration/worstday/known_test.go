package worstday

import (
	"os"
	"regexp"
	"testing"
)

// known is the cells in which users asked for the difference, by a regular expression of "row under fault". The heading of the
// page says so.
var known = []struct{ cells, page, heading string }{}

func TestKnown_PagesHaveHeadings(t *testing.T) {
	for _, k := range known {
		page, err := os.ReadFile("../../docs/" + k.page)
		if err != nil || !regexp.MustCompile(`(?m)^#+ `+regexp.QuoteMeta(k.heading)+`$`).Match(page) {
			t.Errorf("%s: docs/%s has no heading %q (%v)", k.cells, k.page, k.heading, err)
		}
	}
}
