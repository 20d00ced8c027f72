package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// Each mutant fits the code as it is, and the test on real etcd that it names is there. Whoever changes what one takes out
// changes the mutant, too.
func TestMutantsFit(t *testing.T) {
	mutants, err := load(regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		text, err := m.apply(root)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, parser.SkipObjectResolution); err != nil {
			t.Errorf("mutant %s: %v", m.id(), err)
		}
		if m.real != nil && !hasTest(t, m.real[0], m.real[1]) {
			t.Errorf("mutant %s: there is no test %s in integration/%s", m.id(), m.real[1], m.real[0])
		}
	}
}

func hasTest(t *testing.T, pkg, test string) bool {
	files, err := filepath.Glob(filepath.Join(root, "integration", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}

func TestRead(t *testing.T) {
	m, err := read("room", "name\nrow  D1, D2\n# why\nout  what is gone\nfile a/b.go\nreal ./x TestY\n-\told {\n-\t\tmore\n+\tnew {\n\n")
	if err != nil {
		t.Fatal(err)
	}
	if m.id() != "room/name" || m.row != "D1, D2" || m.out != "what is gone" || m.dir() != "a" || m.real[1] != "TestY" ||
		m.old != "old {\n\t\tmore" || m.new != "new {" {
		t.Errorf("read %+v", *m)
	}
	for _, bad := range []string{
		"no file\nrow D1\nout x\n-a\n+b",
		"nothing changes\nrow D1\nout x\nfile a.go\n-a\n+ a",
		"no old text\nrow D1\nout x\nfile a.go\n+b",
		"unknown field\nrow D1\nout x\nfile a.go\nsees y\n-a\n+b",
		"half a test\nrow D1\nout x\nfile a.go\nreal ./discovery\n-a\n+b",
	} {
		if m, err := read("room", bad); err == nil {
			t.Errorf("read %+v of %q", *m, bad)
		}
	}
}
