package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// The tests that mutants name are there.
func TestNamedTests(t *testing.T) {
	mutants, err := load(regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		for _, test := range m.tests {
			if !hasTest(t, test.dir, test.name) {
				t.Errorf("mutant %s: there is no test %s in %s", m.id(), test.name, test.dir)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	for only, want := range map[string]int{"lease/no-fight": 1, "^lease/no-f|^etcdconn/": 3} {
		if got, err := load(regexp.MustCompile(only)); err != nil || len(got) != want {
			t.Errorf("%q: %d mutants, %v; want %d", only, len(got), err, want)
		}
	}
	if _, err := load(regexp.MustCompile("^no-room/")); err == nil {
		t.Error("there are mutants of a room that is not there")
	}
}

func hasTest(t *testing.T, dir, test string) bool {
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
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
	m, err := read("room", "name\nrow  D1, D2\n# why\nout  what is gone\nfile a/b.go\nreal ./x TestY\nunit TestZ\nunit b/c TestQ\n-\told {\n-\t\tmore\n+\tnew {\nfile a/c.go\n-\tgone\n\n")
	if err != nil {
		t.Fatal(err)
	}
	edits := []edit{{"a/b.go", "old {\n\t\tmore", "new {"}, {"a/c.go", "gone", ""}}
	if m.id() != "room/name" || m.row != "D1, D2" || m.out != "what is gone" || m.dir() != "a" || !slices.Equal(m.edits, edits) ||
		!slices.Equal(m.tests, []test{{"integration/x", "TestY"}, {"a", "TestZ"}, {"b/c", "TestQ"}}) {
		t.Errorf("read %+v", *m)
	}
	for _, bad := range []string{
		"no file\nrow D1\nout x\n-a\n+b",
		"nothing changes\nrow D1\nout x\nfile a.go\n-a\n+ a",
		"no old text\nrow D1\nout x\nfile a.go\n+b",
		"unknown field\nrow D1\nout x\nfile a.go\nsees y\n-a\n+b",
		"one edit of two\nrow D1\nout x\nfile a.go\n-a\n+b\nfile b.go",
		"no file yet\nrow D1\nout x\n-a\n+b\nfile a.go",
		"half a test\nrow D1\nout x\nfile a.go\nreal ./discovery\n-a\n+b",
	} {
		if m, err := read("room", bad); err == nil {
			t.Errorf("read %+v of %q", *m, bad)
		}
	}
}
