package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program with a function, a method and a variable to mutate.
const program = `package main

import "fmt"

var limits = map[string]int{
	"low": 1,
} // of all

type door struct{ open bool }

func (d *door) push() {
	if !d.open {
		d.open = true
	}
}

func sum(a, b int) (n int) { return a + b }

func main() {
	var d door
	d.push()
	fmt.Println(limits["low"], d.open, sum(1, 2))
}
`

func TestOneIsInForceAtATime(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": "module example.com/door\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mutants := []*mutant{
		{name: "shut", edits: []edit{{"main.go", "d.open = true", "d.open = false"}}},
		{name: "less", edits: []edit{{"main.go", "a + b", "a - b"}}},
		{name: "more", edits: []edit{{"main.go", "{ return a + b", "{ return times(a, b) + 5 }\n\nfunc times(a, b int) int { return a * b"}}},
		{name: "both", edits: []edit{{"main.go", `"low": 1`, `"low": 7`}, {"main.go", "a + b", "b"}}},
	}
	overlay, err := weave(root, t.TempDir(), mutants)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "door")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay="+overlay, "-o", binary, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for id, want := range map[string]string{"": "1 true 3", "/shut": "1 false 3", "/less": "1 true -1", "/more": "1 true 7", "/both": "7 true 2"} {
		run := exec.CommandContext(t.Context(), binary)
		run.Env = []string{inForce + "=" + id}
		if out, err := run.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("with %q in force: %s, %v; want %s", id, out, err, want)
		}
	}
	for _, e := range []edit{
		{"main.go", "open bool", "open, ajar bool"},
		{"main.go", "sum(a, b int)", "sum(b, a int)"},
		{"main.go", "type door", "const more = 1\n\ntype door"},
		{"main.go", "limits =", "limits, more = 1,"},
	} {
		m := &mutant{name: "bad", edits: []edit{e}}
		if _, err := weave(root, t.TempDir(), []*mutant{m}); err == nil {
			t.Errorf("wove %q", e.new)
		}
	}
	// What does not compile is named.
	bad := &mutant{name: "bad", edits: []edit{{"main.go", "a + b", "a + c"}}}
	if overlay, err = weave(root, t.TempDir(), []*mutant{bad}); err != nil {
		t.Fatal(err)
	}
	build = exec.CommandContext(t.Context(), "go", "build", "-overlay="+overlay, "-o", binary, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err == nil || !strings.Contains(string(out), fmt.Sprintf("%s:17:", bad.id())) {
		t.Errorf("building it: %s, %v", out, err)
	}
}
