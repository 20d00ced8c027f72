package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// The patches fit the code as it is: a change to what one takes out changes the patch, too.
func TestPatchesFit(t *testing.T) {
	mutants, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) == 0 {
		t.Fatal("there are no patches")
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	root, err := output(t.Context(), ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		t.Skip("not in a git checkout: ", err)
	}
	for _, m := range mutants {
		if _, err := output(t.Context(), strings.TrimSpace(root), "git", "apply", "--check", filepath.Join(here, m.name+".patch")); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
