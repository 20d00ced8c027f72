package generator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"testing"
)

// TestExportedNames says that a service has four exported names in our code.
func TestExportedNames(t *testing.T) {
	for path, content := range committed(t, "basic") {
		file, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"EachGreeterClientFromEtcd", "Greeter_EtcdServiceDesc", "NewGreeterClientFromEtcd", "RegisterGreeterServerToEtcd"}
		if got := exported(file); !slices.Equal(got, want) {
			t.Errorf("%s exports %v; want %v", path, got, want)
		}
	}
}

// exported returns the exported names that a file declares, in order.
func exported(file *ast.File) []string {
	var names []string
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, decl.Name.Name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names = append(names, name.Name)
					}
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				}
			}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !ast.IsExported(name) })
	slices.Sort(names)
	return names
}

// TestVet says that the code of every case compiles beside that of the other plugins,
// and that go vet has nothing to say of it.
func TestVet(t *testing.T) {
	args := []string{"vet"}
	for _, name := range cases(t) {
		args = append(args, dataPackage+"/"+name)
	}
	if output, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
