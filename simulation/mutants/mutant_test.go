package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestAllMutantsFit(t *testing.T) {
	all, err := load(regexp.MustCompile("."))
	if err == nil {
		_, err = weave(t.Context(), "../..", t.TempDir(), all)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.err != nil {
			t.Errorf("mutant %s does not fit the code: %v", m.id, m.err)
		}
	}
	if _, err := load(regexp.MustCompile("^no-room/")); err == nil {
		t.Error("load of a missing room: got nil, want an error")
	}
}

func TestRead(t *testing.T) {
	got, err := read("room", `# a comment
dir a/b
== first [D1, D2]
out  what is gone
unit TestA
unit c/d TestB
etcd leader TestC
in   core.step
drop call x y
in   e/f g
change default
to   a $ b
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &mutant{id: "room/first", row: "D1, D2", out: "what is gone",
		tests: []test{{unit, "a/b", "TestA", false}, {unit, "c/d", "TestB", false}, {etcd, "integration/leader", "TestC", false}},
		edits: []edit{{"a/b", "core.step", "drop", "call", []string{"x", "y"}, ""}, {"e/f", "g", "change", "default", []string{}, "a $ b"}}}
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("read = %+v, want %+v", got[0], want)
	}
	for _, bad := range []string{
		"== no-row\nout x\nin f\ndrop call", "== no-edit [D1]\nout x\nin f",
		"== unknown-field [D1]\nout x\nin f\ndrop call\nsees y",
		"== twice [D1]\nout x\nin f\ndrop call\n== twice [D1]\nout x\nin f\ndrop call",
	} {
		if _, err := read("room", bad); err == nil {
			t.Errorf("read(%q): got nil, want an error", strings.ReplaceAll(bad, "\n", "; "))
		}
	}
}
