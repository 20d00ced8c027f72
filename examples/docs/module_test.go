package docs

import (
	"testing"

	"golang.org/x/mod/module"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

// TestModulePaths compares the paths that init takes with those of the go command.
func TestModulePaths(t *testing.T) {
	for _, path := range []string{
		"", "/", "a", "greeter", "example.com", "example.com/", "/example.com", "example.com//a", "example.com/a", "example.com/A/b_c~d",
		"Example.com/a", "-example.com/a", "example_com.org/a", "ex.am.ple/a", ".example.com/a", "example.com./a", "example.com/.a", "example.com/a.",
		"example.com/..", "example.com/.", "example.com/a..b", "example.com/a b", "example.com/a\nb", "example.com/ä", "example.com/\xff",
		"example.com/con", "example.com/Con.x", "example.com/com1", "example.com/com0", "example.com/console", "example.com/lpt9.d", "example.com/nul",
		"example.com/a~1", "example.com/a~12.b", "example.com/a~b", "example.com/a~", "example.com/~1", "example.com/a.b~1", "a~1.com/b",
		"example.com/v0", "example.com/v1", "example.com/v2", "example.com/v02", "example.com/v10", "example.com/v2.0", "example.com/v2/a",
		"example.com/v", "example.com/v.2", "example.com/av2", "v2", "v2.3", "example.com/a/v1.",
		"gopkg.in/a", "gopkg.in/a.v1", "gopkg.in/a.v0", "gopkg.in/a.v01", "gopkg.in/a.v2-unstable", "gopkg.in/a.v", "gopkg.in/a/b.v3", "gopkg.in/v2", "gopkg.in/a/v2",
		"gopkg.in/.v1", "gopkg.in", "example.com/-a", "example.com/a@b", "example.com/a:b", `example.com/a"b`, "example.com/a+b",
	} {
		got, want := quickstart.CheckModule(path), module.CheckPath(path)
		if (got == nil) != (want == nil) {
			t.Errorf("%q: %v; the go command's: %v", path, got, want)
		}
	}
}
