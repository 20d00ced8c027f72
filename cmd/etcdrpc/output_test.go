package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// direct matches a call that writes to anything but a local variable.
var direct = regexp.MustCompile(`\b(fmt\.Print|fmt\.Fprint\w*\([^&]|io\.(WriteString|Copy)|json\.NewEncoder\()|^\s*print(ln)?\(|\.(Write|Print\w*)\(`)

// TestOutput looks for output that bypasses internal/output, which escapes texts from etcd. The
// templates of the console escape its pages.
func TestOutput(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(below) == 0 {
		t.Fatal(below, err)
	}
	for _, name := range append(files, below...) {
		if place := filepath.Base(filepath.Dir(name)); place == "output" || place == "console" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if direct.MatchString(line) {
				t.Errorf("%s:%d: use package output: %s", name, n+1, line)
			}
		}
	}
}
