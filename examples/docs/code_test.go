package docs

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/codegen"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1/greeterv1connect" // pages import it: this keeps it in go.mod
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// imports are the packages that the pages' Go may use without an import.
var imports = map[string]string{
	"acmev1":      "github.com/etcdrpc/protoc-gen-go-etcd/testdata/several",
	"context":     "context",
	"connectetcd": "github.com/etcdrpc/protoc-gen-go-etcd/connectetcd",
	"grpchealth":  "connectrpc.com/grpchealth",
	"clientv3":    "go.etcd.io/etcd/client/v3",
	"counterv1":   "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader",
	"credentials": "google.golang.org/grpc/credentials",
	"fmt":         "fmt",
	"greeterv1":   "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1",
	"grpc":        "google.golang.org/grpc",
	"health":      "google.golang.org/grpc/health",
	"healthpb":    "google.golang.org/grpc/health/grpc_health_v1",
	"http":        "net/http",
	"leader":      "github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader",
	"log":         "log",
	"net":         "net",
	"netip":       "net/netip",
	"os":          "os",
	"runtime":     "github.com/etcdrpc/protoc-gen-go-etcd/runtime",
	"signal":      "os/signal",
	"statuspage":  "github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage",
	"strings":     "strings",
	"syscall":     "syscall",
	"tls":         "crypto/tls",
	"time":        "time",
	"transport":   "go.etcd.io/etcd/client/pkg/v3/transport",
}

// connectImports are the packages of docs/connect.md: the quickstart of
// connect-go has messages of its own.
var connectImports = map[string]string{
	"greeterv1":        "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1",
	"greeterv1connect": "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect/gen/greeter/v1/greeterv1connect",
}

// prelude declares the variables that the pages use without a declaration.
const prelude = `
var (
	ctx          context.Context
	err          error
	etcdClient   *clientv3.Client
	otherClient  *clientv3.Client
	endpoints    string // of etcd
	registry     *runtime.Registry
	registration *runtime.Registration
	server       *runtime.Server
	grpcServer   *grpc.Server
	listener     net.Listener
	creds        credentials.TransportCredentials
	asClient     *tls.Config
)
`

const grpcPrelude = `
var (
	client  greeterv1.GreeterServiceClient
	req     *greeterv1.SayHelloRequest
	impl    greeterv1.GreeterServiceServer
	orders  acmev1.OrdersServer
	users   acmev1.UsersServer
	groups  acmev1.GroupsServer
	counter counterv1.CounterServer
)
`

const connectPrelude = "var impl greeterv1connect.GreeterServiceHandler\n"

// TestGo type-checks the Go of the pages. Each block, of statements or
// declarations, is checked on its own.
func TestGo(t *testing.T) {
	fset := token.NewFileSet()
	check := types.Config{Importer: importer.ForCompiler(fset, "gc", exports(t))}
	for _, b := range all(t, "go") {
		file, err := parse(fset, b)
		if err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
			continue
		}

		check.Error = func(err error) {
			e, ok := err.(types.Error) //nolint:errorlint // go/types hands over its own type, unwrapped
			if ok && e.Soft {
				return // an unused declaration: a fragment need not use it
			}

			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}

		_, _ = check.Check("page", fset, []*ast.File{file}, nil) // check.Error receives the error
	}
}

// parse reads a block as statements or, if that fails, as declarations.
func parse(fset *token.FileSet, b block) (*ast.File, error) {
	known := maps.Clone(imports)
	declared := prelude + grpcPrelude

	if b.page == "docs/connect.md" {
		maps.Copy(known, connectImports)
		declared = prelude + connectPrelude
	}

	var head strings.Builder
	head.WriteString("package page\n")

	for name, path := range known {
		fmt.Fprintf(&head, "import %s %q\n", name, path)
	}

	head.WriteString(declared)

	file, err := parser.ParseFile(fset, b.page, head.String()+"\nfunc _() {\n"+b.text+"\n}\n", 0)
	if err == nil {
		return file, nil
	}

	file, declarationsErr := parser.ParseFile(fset, b.page, head.String()+b.text, 0)
	if declarationsErr == nil {
		return file, nil
	}

	return nil, err
}

// exports returns the compiler's export data of the imports.
func exports(t *testing.T) importer.Lookup {
	t.Helper()

	args := []string{"list", "-export", "-deps", "-f",
		"{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}"}
	args = slices.AppendSeq(args, maps.Values(imports))
	args = slices.AppendSeq(args, maps.Values(connectImports))

	output, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}

	files := make(map[string]string)
	for line := range strings.Lines(string(output)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			files[path] = file
		}
	}

	return func(path string) (io.ReadCloser, error) {
		file, ok := files[path]
		if !ok {
			return nil, fmt.Errorf("%s is not among the imports", path)
		}

		return os.Open(file)
	}
}

// TestCompat finds the pages' code for frameworks in the tests of compat, where
// the service has another name.
func TestCompat(t *testing.T) {
	source := squeezed(sources(t, ".go", repository+"/compat"))
	ours := strings.NewReplacer(
		"&greeterv1.GreeterService_EtcdServiceDesc", "user",
		"greeterv1.GreeterService", "basic.Greeter",
		"GreeterService", "Greeter")
	for _, b := range all(t, "go compat") {
		if !strings.Contains(source, "\n"+squeezed(ours.Replace(b.text))) {
			t.Errorf("%s:%d: no file of compat has this code", b.page, b.line)
		}
	}
}

// squeezed trims lines and the white space that gofmt puts before a comment.
func squeezed(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}

	return b.String()
}

const protoHead = `syntax = "proto3";
package page%[1]d.v1;
import "etcd/discovery/v1/options.proto";
option go_package = "example.com/page%[1]d;page";
message User { string id = 1; }
message GetRequest { User user = 1; }
message GetReply {}
`

// TestProto compiles the services of the pages and generates code from them.
func TestProto(t *testing.T) {
	options, err := proto.Files.ReadFile(optionsProto)
	must.Succeed(t, err)

	for i, b := range all(t, "proto") {
		file := fmt.Sprintf("page%d/v1/page.proto", i)
		files := protocompile.SourceAccessorFromMap(map[string]string{
			file:         fmt.Sprintf(protoHead, i) + b.text,
			optionsProto: string(options),
		})
		sources := &protocompile.SourceResolver{Accessor: files}

		request, err := codegen.Request(t.Context(), sources, file)
		if err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
			continue
		}

		response, err := gen.Respond(request)
		if err != nil || response.Error != nil || len(response.GetFile()) != 1 {
			t.Errorf("%s:%d: %d generated files, errors %v, %q; want one file, no error",
				b.page, b.line, len(response.GetFile()), err, response.GetError())
		}
	}
}

const optionsProto = "etcd/discovery/v1/options.proto"
