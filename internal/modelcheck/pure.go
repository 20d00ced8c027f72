// Package modelcheck checks that a core is pure: a value whose transitions depend on their arguments alone. It walks random sequences
// of the core's events. A shell around the core carries out the core's decisions.
//
//	pure.go  operations that a core must not use
//	walk.go  the walks
//
// "go test -run Walk ./runtime/internal/lease -args -times 10" walks ten times as many sequences as by default.
package modelcheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// impure lists packages that do I/O, read an environment, draw random numbers, or have locks or
// contexts.
var impure = []string{
	"context", "io", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "net", "net/http", "os", "os/exec", "sync", "sync/atomic", "syscall",
}

// clock lists the functions of package time that read the clock or wait for it.
var clock = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// Check fails the test for each impure operation in the files of a core.
func Check(t *testing.T, files ...string) {
	t.Helper()
	fset := token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems(file) {
			t.Errorf("%s: %s", fset.Position(problem.at), problem.what)
		}
	}
}

type problem struct {
	at   token.Pos
	what string
}

func problems(file *ast.File) []problem {
	var found []problem
	for _, spec := range file.Imports {
		if path, err := strconv.Unquote(spec.Path.Value); err != nil || slices.Contains(impure, path) {
			found = append(found, problem{spec.Pos(), "a core does not import " + spec.Path.Value})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, problem{n.Pos(), "a core starts no goroutine"})
		case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
			found = append(found, problem{n.Pos(), "a core has no channel"})
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				found = append(found, problem{n.Pos(), "a core does not read the clock: time." + n.Sel.Name})
			}
		}
		return true
	})
	return found
}
