package main

import (
	"os"
	"strings"
	"testing"
)

// said holds the expected output of each example.
var said = map[string][]string{
	"affinity":   {"each reader at one server", "library-3 left, with "},
	"canary":     {"5 % for v2: new ", "nothing for old-1: new ", "no live config: new "},
	"kubernetes": {"called at its own", "exited with 0", "none failed"},
	"migrate":    {"before: calls reach old", "the old server has left", "the new layout alone: calls reach new", "none failed"},
	"tls": {"none reaches an impostor", "the caller cannot register a server", "a client without credentials is an error",
		"an impostor in etcd fails the handshake"},
}

func TestExamples(t *testing.T) {
	for _, example := range examples {
		t.Run(example.Name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := example.Run(t.Context(), &out)
			t.Logf("output:\n%s", out.String())
			if err != nil {
				t.Fatal(err)
			}
			if len(said[example.Name]) == 0 {
				t.Error("said has no expected output for it")
			}
			for _, want := range said[example.Name] {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
		})
	}
}

// TestScripts finds the scripts of the example tls in docs/security.md.
func TestScripts(t *testing.T) {
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tls/roles.sh", "tls/users.sh"} {
		script, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), string(script)) {
			t.Errorf("docs/security.md does not have an exact copy of %s", name)
		}
	}
}
