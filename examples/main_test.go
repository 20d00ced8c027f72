package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// said is what each example must have said.
var said = map[string][]string{
	"affinity":   {"no cart in pieces", "cart-3 left: its "},
	"broadcast":  {"while d came up: each of a b c was called once", "with d: each of a b c d was called once", `instance "e"`},
	"canary":     {"5 % for v2: new ", "nothing for old-1: new ", "no live config: new "},
	"kubernetes": {"called at its own", "exited with 0", "none failed"},
	"lanes":      {"once it has one: branch 100.0 %", "all other calls: main-1 ", "when the branch is gone: main-1 "},
	"leader":     {" leads: numbers up to 100", " leads: numbers up to 200", " leads: numbers up to 300"},
	"migrate":    {"before: calls reach old-1, old-2", "the old servers have left", "the new layout alone: calls reach new-1, new-2", "none failed"},
	"connect": {"calls by connect-go: connect-1 33.3 %, connect-2 33.3 %, grpc-1 33.3 %", "calls by gRPC: connect-1 33.3 %",
		"to JSON by HTTP/1", "calls were made and none failed", "then calls by connect-go: connect-2 50.0 %, grpc-1 50.0 %"},
	"several":   {"two keys, one lease: [shop/catalog/", "receipt for order of tea", "drained: []"},
	"slowstart": {"two servers warm up", "the new server began with ", "now has its full share"},
	"tls": {"10 calls over TLS", "the caller cannot register a server", "a client without credentials is an error",
		"an impostor in etcd fails the handshake", "none reaches it, nor fails"},
	"zones": {"caller in eu-1a: near-1 ", "whose servers have left: far 100.0 %", "which has one again: near-3 100.0 %"},
}

func TestExamples(t *testing.T) {
	for _, example := range examples {
		t.Run(example.Name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := example.Run(t.Context(), &out)
			t.Logf("it said:\n%s", out.String())
			if err != nil {
				t.Fatal(err)
			}
			if len(said[example.Name]) == 0 {
				t.Error("nobody knows what it is to say")
			}
			for _, want := range said[example.Name] {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it did not say %q", want)
				}
			}
		})
	}
}

var listed = regexp.MustCompile("(?m)^\\| `go run \\. (\\w+)`")

// TestREADME compares the table in README.md with the examples.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, match := range listed.FindAllSubmatch(readme, -1) {
		got = append(got, string(match[1]))
	}
	for _, example := range examples {
		want = append(want, example.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("README.md lists %q, want %q", got, want)
	}
}

// TestScripts compares the scripts of the example tls with those of the documentation.
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
			t.Errorf("docs/security.md does not have %s as it is", name)
		}
	}
}
