package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutput looks for output that does not go through internal/output, where what comes from etcd is escaped. The pages of
// the console escape by their templates.
func TestOutput(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(rooms) == 0 {
		t.Fatal(rooms, err)
	}
	fset := token.NewFileSet()
	for _, name := range append(files, rooms...) {
		if room := filepath.Base(filepath.Dir(name)); room == "output" || room == "console" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && writes(call) {
				t.Errorf("%s: output: use package output", fset.Position(call.Pos()))
			}
			return true
		})
	}
}

// writes reports whether a call writes to something else than a variable of its function.
func writes(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		id, ok := call.Fun.(*ast.Ident)
		return ok && (id.Name == "print" || id.Name == "println")
	}
	from, _ := f.X.(*ast.Ident)
	name := f.Sel.Name
	switch {
	case from != nil && from.Name == "fmt" && strings.HasPrefix(name, "Fprint"):
		_, local := call.Args[0].(*ast.UnaryExpr)
		return !local
	case from != nil && from.Name == "fmt":
		return strings.HasPrefix(name, "Print")
	case from != nil && from.Name == "io":
		return name == "WriteString" || strings.HasPrefix(name, "Copy")
	case from != nil && from.Name == "json":
		return name == "NewEncoder"
	}
	return strings.HasPrefix(name, "Print") || name == "Write"
}
