// Package quickstart holds the files of a first service. They are copies of examples/quickstart, and for
// Connect of examples/quickstart-connect, modules that are generated, built and tested like any other.
package quickstart

import (
	"embed"
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

	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// Self is the path of this module.
const Self = "github.com/etcdrpc/protoc-gen-go-etcd"

// An example is a module that is the template of projects.
type example struct {
	dir   string   // the directory of its files, below that of this package
	path  string   // its module path
	needs []string // the modules of this repository that it requires and replaces, as paths below this module
}

var (
	grpcExample    = example{"_files", Self + "/examples/quickstart", []string{""}}
	connectExample = example{"_connect", Self + "/examples/quickstart-connect", []string{"", "/connectetcd"}}
)

// options is the directory of the options' proto file.
const options = "third_party/etcd"

// The underscores hide the directories from the go command. "go test ./internal/quickstart -update" writes their files.
//
//go:embed all:_files all:_connect
var files embed.FS

// A Project is a module with a first service.
type Project struct {
	Module  string // the module path
	Version string // the version of this repository's module to require; ignored if Replace is set
	Replace string // a directory to use in place of this repository's module
	Connect bool   // whether it is for connect-go instead of gRPC

	BufOnPath bool // whether the project uses the buf on the PATH instead of the buf in its tools/go.mod
}

func (p Project) example() example {
	if p.Connect {
		return connectExample
	}
	return grpcExample
}

// modulePath matches the paths of modules, except for rules that the go command reports by itself.
var modulePath = regexp.MustCompile(`^[a-z0-9][-a-z0-9]*(\.[-a-z0-9]+)+(/[-_~A-Za-z0-9]+(\.[-_~A-Za-z0-9]+)*)*$`)

// Files returns the content of the project's files, by path with slashes.
func (p Project) Files() (map[string]string, error) {
	if !modulePath.MatchString(p.Module) {
		return nil, fmt.Errorf("%q cannot be the path of the new module: want a host name with a dot, then names between slashes, as in example.com/greeter", p.Module)
	}
	all := make(map[string]string)
	copied, err := fs.Sub(files, p.example().dir)
	if err != nil {
		return nil, err
	}
	if err := add(all, copied, "", p.render); err != nil {
		return nil, err
	}
	return all, add(all, proto.Files, options, func(_, text string) (string, error) { return text, nil })
}

// add adds the rendered files of a file system to all, under dir.
func add(all map[string]string, source fs.FS, dir string, render func(name, text string) (string, error)) error {
	return fs.WalkDir(source, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(source, file)
		if err != nil {
			return err
		}
		name := path.Join(dir, strings.TrimSuffix(file, hidden))
		all[name], err = render(name, string(content))
		return err
	})
}

// hidden is added to the embedded names of go.mod files, which would keep their directories out of this module.
const hidden = ".txt"

// render returns the project's version of a file of the example.
func (p Project) render(name, text string) (string, error) {
	text = strings.ReplaceAll(text, p.example().path, p.Module)
	switch {
	case name == "go.mod":
		return p.requireSelf(text)
	case name == "generate.go" && p.BufOnPath:
		return useBufOnPath(text)
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

// ownBuf builds and runs, in generate.go, the buf that tools/go.mod pins.
const ownBuf = "//go:generate go -C tools build -o ../bin/ github.com/bufbuild/buf/cmd/buf\n//go:generate bin/buf generate\n"

// useBufOnPath returns generate.go with the buf on the PATH in place of the project's own buf.
func useBufOnPath(text string) (string, error) {
	if !strings.Contains(text, ownBuf) {
		return "", fmt.Errorf("the quickstart's generate.go lacks %q", ownBuf)
	}
	return strings.Replace(text, ownBuf, "//go:generate buf generate\n", 1), nil
}

// requireSelf returns go.mod with the project's requirements of this repository's modules.
func (p Project) requireSelf(text string) (string, error) {
	for _, below := range p.example().needs {
		requirement, replacement := Self+below+" v0.0.0\n", "replace "+Self+below+" => ../.."+below+"\n"
		if !strings.Contains(text, replacement+"\n") || !strings.Contains(text, requirement) {
			return "", fmt.Errorf("the quickstart's go.mod lacks %q or %q", replacement, requirement)
		}
		if p.Replace != "" {
			text = strings.Replace(text, replacement, "replace "+Self+below+" => "+quote(p.Replace+filepath.FromSlash(below))+"\n", 1)
			continue
		}
		text = strings.Replace(text, replacement+"\n", "", 1)
		text = strings.Replace(text, requirement, Self+below+" "+p.Version+"\n", 1)
	}
	return text, nil
}

// quote quotes a path for go.mod if necessary.
func quote(dir string) string {
	if strings.ContainsAny(dir, " \t\r\n\"'`()[]{},") || strings.Contains(dir, "//") || strings.Contains(dir, "/*") {
		return strconv.Quote(dir)
	}
	return dir
}

// CheckEmpty returns an error if a directory holds anything except .git.
func CheckEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(entry os.DirEntry) bool { return entry.Name() == ".git" })
	switch len(entries) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("the directory has %q: it must be empty, except for .git", entries[0].Name())
	default:
		return fmt.Errorf("the directory has %q and %d more: it must be empty, except for .git", entries[0].Name(), len(entries)-1)
	}
}

// Write writes files under an empty directory.
func Write(dir string, files map[string]string) error {
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
