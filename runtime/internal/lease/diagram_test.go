package lease

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// diagrams is the page with the state diagram of a registration.
const diagrams = "../../../docs/registration.md"

var (
	diagram = regexp.MustCompile("(?s)```mermaid\nstateDiagram-v2\n    \\[\\*\\] --> registering\n(.*?)```")
	wanted  = regexp.MustCompile(`(?s)state wanted \{(.*?)\}`)
	arrows  = regexp.MustCompile(`(?m)^\s*(\S+) --> (\S+?)(?::.*)?$`)
)

// checkDiagram compares the changes that all walks have seen with those that the docs draw. An arrow from the composite state is
// one from each state in it.
func checkDiagram(t *testing.T) {
	if len(seen) == 0 {
		t.Skip("nothing was walked")
	}
	page, err := os.ReadFile(diagrams)
	if err != nil {
		t.Fatal(err)
	}
	drawn := diagram.FindStringSubmatch(string(page))[1]
	inner := wanted.FindStringSubmatch(drawn)[1]
	left := map[string]bool{"[*] --> registering": true}
	for _, arrow := range arrows.FindAllStringSubmatch(drawn, -1) {
		from, to := arrow[1], arrow[2]
		for _, state := range []string{"registering", "registered", "lost", "conflict", "paused"} {
			if to != "[*]" && (from == state || from == "wanted" && state != to && strings.Contains(inner, state)) {
				left[state+" --> "+to] = true
			}
		}
	}
	for arrow := range seen {
		if !left[arrow] {
			t.Errorf("%s happens, and %s does not draw it", arrow, diagrams)
		}
		delete(left, arrow)
	}
	for arrow := range left {
		t.Errorf("%s is drawn in %s and never happened", arrow, diagrams)
	}
}
