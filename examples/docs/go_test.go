package docs

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// imports are what the Go of the pages may use without saying so.
var imports = map[string]string{
	"context":       "context",
	"connect":       "connectrpc.com/connect",
	"connectetcd":   "github.com/etcdrpc/protoc-gen-go-etcd/connectetcd",
	"grpchealth":    "connectrpc.com/grpchealth",
	"bufconn":       "google.golang.org/grpc/test/bufconn",
	"clientv3":      "go.etcd.io/etcd/client/v3",
	"credentials":   "google.golang.org/grpc/credentials",
	"etcdtest":      "github.com/etcdrpc/protoc-gen-go-etcd/etcdtest",
	"fmt":           "fmt",
	"greeterv1":     "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1",
	"grpc":          "google.golang.org/grpc",
	"health":        "google.golang.org/grpc/health",
	"healthpb":      "google.golang.org/grpc/health/grpc_health_v1",
	"http":          "net/http",
	"insecure":      "google.golang.org/grpc/credentials/insecure",
	"leader":        "github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader",
	"log":           "log",
	"net":           "net",
	"netip":         "net/netip",
	"os":            "os",
	"runtime":       "github.com/etcdrpc/protoc-gen-go-etcd/runtime",
	"shopv1":        "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1",
	"shopv1connect": "github.com/etcdrpc/protoc-gen-go-etcd/examples/shop/gen/shop/v1/shopv1connect",
	"signal":        "os/signal",
	"slog":          "log/slog",
	"statuspage":    "github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage",
	"strings":       "strings",
	"syscall":       "syscall",
	"testing":       "testing",
	"tls":           "crypto/tls",
	"time":          "time",
	"x509":          "crypto/x509",
}

// prelude declares what the pages take for granted.
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
	authorities  *x509.CertPool
	client       greeterv1.GreeterServiceClient
	req          *greeterv1.SayHelloRequest
	impl         greeterv1.GreeterServiceServer
	catalog      shopv1.CatalogServer
	catalogs     shopv1connect.CatalogHandler
	orders       shopv1.OrdersServer
	payments     shopv1.PaymentsServer
	invoices     shopv1.InvoicesServer
)
`

// TestGo type-checks the Go of the pages. Blocks are statements or declarations; each stands for
// itself.
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
			if e, ok := err.(types.Error); ok && e.Soft { //nolint:errorlint // go/types hands over its own type, unwrapped
				return // something declared is not used, which a fragment may leave to the reader
			}
			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}
		_, _ = check.Check("page", fset, []*ast.File{file}, nil) // check.Error has heard of it
	}
}

// parse reads a block as statements, or failing that as declarations.
func parse(fset *token.FileSet, b block) (*ast.File, error) {
	var head strings.Builder
	head.WriteString("package page\n")
	for name, path := range imports {
		fmt.Fprintf(&head, "import %s %q\n", name, path)
	}
	head.WriteString(prelude)
	file, err := parser.ParseFile(fset, b.page, head.String()+"\nfunc _() {\n"+b.text+"\n}\n", 0)
	if err == nil {
		return file, nil
	}
	if file, declarationsErr := parser.ParseFile(fset, b.page, head.String()+b.text, 0); declarationsErr == nil {
		return file, nil
	}
	return nil, err
}

// exports finds what the compiler has to say about the imports.
func exports(t *testing.T) importer.Lookup {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}"}
	for _, path := range imports {
		args = append(args, path)
	}
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
