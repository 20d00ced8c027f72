// Package quickstart has the files that a first service is made of. They are those of examples/quickstart, which the
// repository generates, builds and tests like any other module.
package quickstart

import (
	"embed"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

// Self is the path of this module.
const Self = "github.com/etcdrpc/protoc-gen-go-etcd"

// How examples/quickstart names itself and finds this module.
const (
	example     = Self + "/examples/quickstart"
	requirement = Self + " v0.0.0"
	replacement = "replace " + Self + " => ../.."
)

// options is where the options of proto files are.
const options = "third_party/etcd"

// The underscore hides the Go files from the go command. "go test ./internal/quickstart -update" copies them.
//
//go:embed all:_files
var files embed.FS

// A Project is a service to be.
type Project struct {
	Module  string // its module path
	Version string // the version of this module that it requires, unless Replace is set
	Replace string // a directory that stands in for this module
}

// Files returns the files of the project by their paths, which have slashes.
func (p Project) Files() (map[string]string, error) {
	if err := CheckModule(p.Module); err != nil {
		return nil, err
	}
	all := make(map[string]string)
	copied, err := fs.Sub(files, "_files")
	if err != nil {
		return nil, err
	}
	if err := add(all, copied, "", p.render); err != nil {
		return nil, err
	}
	return all, add(all, proto.Files, options, func(_, text string) (string, error) { return text, nil })
}

// add reads the files of a file system.
func add(all map[string]string, from fs.FS, dir string, render func(name, text string) (string, error)) error {
	return fs.WalkDir(from, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, file)
		if err != nil {
			return err
		}
		name := path.Join(dir, strings.TrimSuffix(file, hidden))
		all[name], err = render(name, string(content))
		return err
	})
}

// hidden ends the embedded names of files called go.mod, which would keep their directories out of this module.
const hidden = ".txt"

// render makes a file of the example one of the project.
func (p Project) render(name, text string) (string, error) {
	text = strings.ReplaceAll(text, example, p.Module)
	switch {
	case name == "go.mod":
		return p.requireSelf(text)
	case path.Ext(name) == ".go":
		// Imports are sorted by their paths, which have changed.
		formatted, err := format.Source([]byte(text))
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return string(formatted), nil
	}
	return text, nil
}

// requireSelf has go.mod find this module.
func (p Project) requireSelf(text string) (string, error) {
	if !strings.Contains(text, replacement+"\n\n") || !strings.Contains(text, requirement+"\n") {
		return "", errors.New("go.mod of the quickstart does not require this module as it should")
	}
	if p.Replace != "" {
		return strings.Replace(text, replacement, "replace "+Self+" => "+quote(p.Replace), 1), nil
	}
	text = strings.Replace(text, replacement+"\n\n", "", 1)
	return strings.Replace(text, requirement, Self+" "+p.Version, 1), nil
}

// quote returns a path as go.mod has it.
func quote(dir string) string {
	if strings.ContainsAny(dir, " \t\r\n\"'`()[]{},") || strings.Contains(dir, "//") || strings.Contains(dir, "/*") {
		return strconv.Quote(dir)
	}
	return dir
}
