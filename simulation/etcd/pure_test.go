package etcd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// TestCoreIsPure checks that the model's transitions depend on their arguments alone: the shell has the clock, the
// goroutines, the channels and the lock.
func TestCoreIsPure(t *testing.T) {
	core := []string{
		"auth.go", "check.go", "errors.go", "lease.go", "members.go", "range.go", "state.go", "store.go", "txn.go", "watch.go",
	}
	impure := []string{`"context"`, `"io"`, `"math/rand/v2"`, `"net"`, `"os"`, `"sync"`, `"google.golang.org/grpc"`}
	clock := []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
	fset := token.NewFileSet()
	for _, name := range core {
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				if slices.Contains(impure, n.Path.Value) {
					t.Errorf("%s: a core does not import %s", fset.Position(n.Pos()), n.Path.Value)
				}
			case *ast.GoStmt, *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
				t.Errorf("%s: a core has no goroutine and no channel", fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: a core does not read the clock", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
