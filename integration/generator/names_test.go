package generator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestExportedNames says that a service has three exported names in our code, also where
// it has methods with an affinity.
func TestExportedNames(t *testing.T) {
	for name, services := range map[string][]string{
		"basic":    {"Greeter"},
		"affinity": {"Kinds", "Places"},
	} {
		var want []string
		for _, s := range services {
			want = append(want, s+"_EtcdServiceDesc", "New"+s+"ClientFromEtcd", "Register"+s+"ServerToEtcd")
		}
		slices.Sort(want)
		for path, content := range committed(t, name) {
			file, err := parser.ParseFile(token.NewFileSet(), path, content, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := exported(file); !slices.Equal(got, want) {
				t.Errorf("%s exports %v; want %v", path, got, want)
			}
		}
	}
}

// exported returns the exported names that a file declares in its package, in order.
func exported(file *ast.File) []string {
	var names []string
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Recv == nil {
				names = append(names, decl.Name.Name)
			}
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

// TestDependencies says that gRPC's xDS support, which is large, is linked where outlier
// detection is used and nowhere else.
func TestDependencies(t *testing.T) {
	const user = "outlier"
	others := slices.DeleteFunc(cases(t), func(name string) bool { return name == user })
	if !linksXDS(t, user) {
		t.Errorf("%s does not link xDS support", user)
	}
	if linksXDS(t, others...) {
		t.Errorf("one of %v links xDS support", others)
	}
}

// linksXDS reports whether any of the cases does.
func linksXDS(t *testing.T, cases ...string) bool {
	t.Helper()
	args := []string{"list", "-deps"}
	for _, name := range cases {
		args = append(args, dataPackage+"/"+name)
	}
	output, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(strings.Fields(string(output)), "google.golang.org/grpc/xds")
}
