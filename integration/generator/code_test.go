package generator

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/policies"
)

// The four names of a service and their types.
var (
	_ *runtime.ServiceDesc                                                     = &basic.Greeter_EtcdServiceDesc
	_ func(*runtime.Registry, ...grpc.DialOption) (basic.GreeterClient, error) = basic.NewGreeterClientFromEtcd
	_ func(*runtime.Server, basic.GreeterServer, ...runtime.RegisterOption)    = basic.RegisterGreeterServerToEtcd
	_ func(context.Context, *runtime.Registry,
		func(context.Context, runtime.Endpoint, basic.GreeterClient) error, ...grpc.DialOption) error = basic.EachGreeterClientFromEtcd
)

// TestExportedNames says that there are no others.
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

// TestServiceConfigs says that gRPC takes the service configs.
func TestServiceConfigs(t *testing.T) {
	for _, desc := range []*runtime.ServiceDesc{
		&methods.Methods_EtcdServiceDesc,
		&policies.Unset_EtcdServiceDesc,
		&policies.Empty_EtcdServiceDesc,
		&policies.RoundRobin_EtcdServiceDesc,
		&policies.PickFirst_EtcdServiceDesc,
		&policies.Shuffled_EtcdServiceDesc,
		&policies.Least_EtcdServiceDesc,
		&policies.LeastOfFour_EtcdServiceDesc,
		&policies.Ring_EtcdServiceDesc,
		&policies.BigRing_EtcdServiceDesc,
	} {
		conn, err := grpc.NewClient("passthrough:///none", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(desc.ServiceConfig))
		if err != nil {
			t.Errorf("%s: %v", desc.Name, err)
			continue
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
