package main

import (
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

func TestRead_Refuses(t *testing.T) {
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
