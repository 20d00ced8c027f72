package lease

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// diagrams is the page with the state diagrams of the registration and of its lease.
const diagrams = "../../../docs/registration.md"

var (
	blocks = regexp.MustCompile("(?s)```mermaid\nstateDiagram-v2\n(.*?)```")
	wanted = regexp.MustCompile(`(?s)state wanted \{(.*?)\}`)
	arrows = regexp.MustCompile(`(?m)^\s*(\S+) --> (\S+?)(:.*)?$`)
)

// checkDiagrams compares the changes that all walks have seen with those that the docs draw.
func checkDiagrams(t *testing.T) {
	if len(seen) == 0 {
		t.Skip("nothing was walked")
	}
	page, err := os.ReadFile(diagrams)
	if err != nil {
		t.Fatal(err)
	}
	drawn := make(map[string]bool) // whether it happens in walks, too: what takes a restored etcd is too rare
	for _, block := range blocks.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], "registering") || strings.Contains(block[1], "replacing") {
			draw(drawn, block[1])
		}
	}
	for _, arrow := range slices.Sorted(maps.Keys(seen)) {
		if _, ok := drawn[arrow]; !ok {
			t.Errorf("%s happens, and %s does not draw it", arrow, diagrams)
		}
	}
	for _, arrow := range slices.Sorted(maps.Keys(drawn)) {
		if drawn[arrow] && !seen[arrow] && arrow != "[*] --> none" && !strings.HasSuffix(arrow, "[*]") {
			t.Errorf("%s is drawn in %s and never happened", arrow, diagrams)
		}
	}
}

// draw adds the arrows of a diagram. One that leaves the composite state leaves each state in it.
func draw(drawn map[string]bool, diagram string) {
	inner := make(map[string]bool)
	if composite := wanted.FindStringSubmatch(diagram); composite != nil {
		for _, arrow := range arrows.FindAllStringSubmatch(composite[1], -1) {
			inner[arrow[1]], inner[arrow[2]] = true, true
		}
	}
	for _, arrow := range arrows.FindAllStringSubmatch(diagram, -1) {
		if arrow[1] != "wanted" {
			drawn[arrow[1]+" --> "+arrow[2]] = !strings.Contains(arrow[3], "restored")
			continue
		}
		for state := range inner {
			if state != arrow[2] {
				drawn[state+" --> "+arrow[2]] = true
			}
		}
	}
}
