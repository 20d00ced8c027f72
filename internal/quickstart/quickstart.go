// Package quickstart holds the files of a first service. The files are those of
// examples/quickstart or, for Connect, of examples/quickstart-connect. Both are
// modules that are generated, built and tested like any other.
package quickstart

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// Self is the path of this module.
const Self = "github.com/etcdrpc/protoc-gen-go-etcd"

// An example is a module that is the template of projects.
type example struct {
	archive string // its files, each after a line "-- NAME --"
	path    string // its module path

	// the modules of this repository that the example requires and replaces, as
	// paths below this module
	needs []string

	protoc string // the commands that replace ownBuf in generate.go, to run protoc
}

// "go test ./internal/quickstart -update" writes the archives.
var (
	//go:embed grpc.txtar
	grpcArchive string

	//go:embed connect.txtar
	connectArchive string

	grpcExample = example{
		grpcArchive,
		Self + "/examples/quickstart",
		[]string{""},
		grpcProtoc,
	}

	connectExample = example{
		connectArchive,
		Self + "/examples/quickstart-connect",
		[]string{"", "/connectetcd"},
		connectProtoc,
	}
)

// files returns the content of the example's files by name.
func (e example) files() map[string]string {
	all := make(map[string]string)
	for _, file := range strings.Split("\n"+e.archive, "\n-- ")[1:] {
		name, content, _ := strings.Cut(file, " --\n")
		all[name] = strings.TrimSuffix(content, "\n") + "\n"
	}

	return all
}

// options is the options' proto file.
const options = "etcd/discovery/v1/options.proto"

// A Project is a module with a first service.
type Project struct {
	Module string // the module path
	Key    string // the service's key; "" selects a key named after the module

	// the version of this repository's module to require; ignored if Replace is
	// set
	Version string

	Replace string // a directory to use in place of this repository's module
	Connect bool   // whether the project is for connect-go instead of gRPC

	// the program on the PATH that generates the code, buf or protoc; "" for
	// the buf in the project's tools/go.mod
	OnPath string
}

func (p Project) example() example {
	if p.Connect {
		return connectExample
	}

	return grpcExample
}

// modulePath matches the paths of modules, and also some that the go command
// refuses: see reserved.
var modulePath = regexp.MustCompile(`^[a-z0-9][-a-z0-9]*(\.[-a-z0-9]+)+(/[_~A-Za-z0-9][-_~A-Za-z0-9]*(\.[-_~A-Za-z0-9]+)*)*$`)

// reserved matches the directories that the go command does not list, or does
// not let programs import. It also matches the paths that the command refuses
// because Windows has no such files: see module.CheckPath of golang.org/x/mod.
var reserved = regexp.MustCompile(`^(internal|vendor|testdata)$|(?i)(^|/)(con|prn|aux|nul|com[1-9]|lpt[1-9]|[^/.]*~[0-9]+)(\.|/|$)`)

// majorVersion matches the end of a path that names a major version, as in
// example.com/shop/v2 and gopkg.in/shop.v1.
var majorVersion = regexp.MustCompile(`[/.]v[0-9]+$`)

// packageName matches the names that the proto package may have. Files are
// named after it, hence the limit.
var packageName = regexp.MustCompile(`^[a-z][a-z0-9]{0,62}$`)

// Names are the names of a project's service: for example.com/web-shop, service
// WebShopService of package webshop, key web-shop.
type Names struct{ Service, Package, Key string }

// Names derives the names from the last element of the key or, without a key,
// of the module path.
func (p Project) Names() (Names, error) {
	if !modulePath.MatchString(p.Module) || reserved.MatchString(p.Module) {
		return Names{}, fmt.Errorf("%.80q cannot be the path of the new module: want a host name with a dot, then names between slashes that Windows does not reserve, as in example.com/greeter", p.Module)
	}

	last := path.Base(majorVersion.ReplaceAllString(cmp.Or(p.Key, p.Module), ""))
	separates := func(r rune) bool { return strings.ContainsRune("-_.~", r) }
	words := strings.FieldsFunc(last, separates)

	n := Names{
		Package: strings.ToLower(strings.Join(words, "")),
		Key:     cmp.Or(p.Key, strings.ToLower(strings.Join(words, "-"))),
	}
	if !packageName.MatchString(n.Package) || reserved.MatchString(n.Package) {
		return Names{}, fmt.Errorf("%.80q cannot name a service: give a KEY that ends in a short word of letters, as in: init %.80s acme/shop",
			last, p.Module)
	}

	for _, word := range words {
		n.Service += strings.ToUpper(word[:1]) + word[1:]
	}

	n.Service = strings.TrimSuffix(n.Service, "Service") + "Service"

	if _, ok := servicekey.Authority(n.Key); !ok {
		return n, fmt.Errorf("KEY %.80q gives no authority: want a host name with slashes for its dots, as in acme/shop", n.Key)
	}

	return n, endpoint.CheckKey(n.Key)
}

// Files returns the content of the project's files, by path with slashes.
func (p Project) Files() (map[string]string, error) {
	names, err := p.Names()
	if err != nil {
		return nil, err
	}

	text, err := proto.Files.ReadFile(options)
	if err != nil {
		return nil, err
	}

	rename := strings.NewReplacer(
		p.example().path, p.Module,
		`"acme/greeter"`, strconv.Quote(names.Key),
		"GreeterService", names.Service,
		"greeter", names.Package)
	all := map[string]string{"third_party/etcd/" + options: string(text)}

	compile := map[string]string{
		"":       ownBuf,
		"buf":    "//go:generate buf generate\n",
		"protoc": p.example().protoc,
	}[p.OnPath]
	for name, text := range p.example().files() {
		name = rename.Replace(name)
		text = strings.Replace(text, ownBuf, compile, 1)

		all[name], err = p.render(name, rename.Replace(text))
		if err != nil {
			return nil, err
		}
	}

	return all, nil
}

// render completes a renamed file of the example.
func (p Project) render(name, text string) (string, error) {
	switch {
	case name == "go.mod":
		return p.requireSelf(text), nil
	case path.Ext(name) == ".go":
		// The imports have new paths, and so a new order.
		formatted, err := format.Source([]byte(text))
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}

		return string(formatted), nil
	}

	return text, nil
}

// ownBuf builds and runs, in generate.go, the buf that tools/go.mod pins. The
// build takes minutes, so -v prints the packages as they are compiled.
const ownBuf = "//go:generate go -C tools build -v -o ../bin/ github.com/bufbuild/buf/cmd/buf\n//go:generate bin/buf generate\n"

// These build the plugins and run protoc. Each plugin writes below the module's
// directory, because gen does not exist yet.
const (
	grpcProtoc = `// protoc generates code for the files at the end of its line: add yours there.
//go:generate go -C tools build -v -o ../bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
//go:generate go build -v -o bin/ github.com/etcdrpc/protoc-gen-go-etcd/cmd/protoc-gen-go-etcd
//go:generate protoc -I proto -I third_party/etcd --plugin=bin/protoc-gen-go --go_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart:. --plugin=bin/protoc-gen-go-grpc --go-grpc_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart:. --plugin=bin/protoc-gen-go-etcd --go-etcd_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart:. proto/greeter/v1/greeter.proto
`

	connectProtoc = `// protoc generates code for the files at the end of its line: add yours there.
//go:generate go -C tools build -v -o ../bin/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
//go:generate go build -v -o bin/ github.com/etcdrpc/protoc-gen-go-etcd/cmd/protoc-gen-go-etcd
//go:generate protoc -I proto -I third_party/etcd --plugin=bin/protoc-gen-go --go_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect:. --plugin=bin/protoc-gen-connect-go --connect-go_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect,simple:. --plugin=bin/protoc-gen-go-etcd --go-etcd_out=module=github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart-connect,connect=true:. proto/greeter/v1/greeter.proto
`
)

// requireSelf returns go.mod with the project's requirements of this
// repository's modules.
func (p Project) requireSelf(text string) string {
	for _, below := range p.example().needs {
		replacement := "replace " + Self + below + " => ../.." + below + "\n"
		if p.Replace != "" {
			text = strings.Replace(text, replacement,
				"replace "+Self+below+" => "+quote(p.Replace+below)+"\n", 1)
			continue
		}

		text = strings.Replace(text, replacement+"\n", "", 1)
		text = strings.Replace(text,
			Self+below+" v0.0.0\n",
			Self+below+" "+p.Version+"\n", 1)
	}

	return text
}

// quote quotes a path for go.mod if necessary.
func quote(dir string) string {
	if strings.ContainsAny(dir, " \t\r\n\"'`()[]{},") ||
		strings.Contains(dir, "//") ||
		strings.Contains(dir, "/*") {
		return strconv.Quote(dir)
	}

	return dir
}

// Write writes files under a directory, or no file if one of them exists.
func Write(dir string, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			return fmt.Errorf(
				"the directory has %q, which init would write: move it away", name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}

	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}

		if err := os.WriteFile(path, []byte(files[name]), 0o666); err != nil {
			return err
		}
	}

	return nil
}
