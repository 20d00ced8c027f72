package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

const next = `Wrote a first service, module %s. To generate its code and build it into bin:

  go generate -x

The first time this takes minutes, for it downloads and builds buf and the plugins.
`

// initialize writes a first service into the current directory. It uses this module from the directory replace or, if
// that is empty, the version of it that this command was built from.
func initialize(stdout io.Writer, module, replace string) error {
	project, err := newProject(module, replace)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	files, err := project.Files()
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := quickstart.CheckEmpty("."); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	if err := quickstart.Write(".", files); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	_, err = fmt.Fprintf(stdout, next, module)
	return err
}

func newProject(module, replace string) (quickstart.Project, error) {
	project := quickstart.Project{Module: module}
	if err := quickstart.CheckModule(module); err != nil {
		return project, err
	}
	if replace != "" {
		dir, err := replacement(replace)
		project.Replace = dir
		return project, err
	}
	version, ok := released()
	if !ok {
		return project, errors.New("this is a development build, whose version no module proxy has: " +
			"say -replace DIR, where DIR is a checkout of " + quickstart.Self)
	}
	project.Version = version
	return project, nil
}

// moduleLine finds the path of the module that a go.mod is of.
var moduleLine = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)"?`)

// replacement returns the directory as go.mod is to have it.
func replacement(dir string) (string, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("-replace %s: it must be a checkout of %s: %w", dir, quickstart.Self, err)
	}
	if match := moduleLine.FindSubmatch(gomod); match == nil || string(match[1]) != quickstart.Self {
		return "", fmt.Errorf("-replace %s: it must be a checkout of %s, and its go.mod is of another module", dir, quickstart.Self)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("-replace %s: %w", dir, err)
	}
	return abs, nil
}

// released returns the version of this module, if a module proxy has it: a command that is built from a checkout or
// with a replacement has no checksum.
func released() (version string, ok bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != quickstart.Self || info.Main.Sum == "" {
		return "", false
	}
	return info.Main.Version, true
}
