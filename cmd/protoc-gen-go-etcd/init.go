package main

import (
	"errors"
	"flag"
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

// initialization is what the command init was told.
type initialization struct {
	module  string
	replace string // a checkout of this module to use, or "": the version that this command was built from
}

// parseInit reports whether the arguments are those of init.
func parseInit(args []string) (initialization, bool) {
	var i initialization
	if len(args) == 0 || args[0] != "init" {
		return i, false
	}
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("replace", "", func(dir string) error {
		if i.replace = dir; dir == "" {
			return errors.New("DIR is empty")
		}
		return nil
	})
	if flags.Parse(args[1:]) != nil || flags.NArg() != 1 {
		return i, false
	}
	i.module = flags.Arg(0)
	return i, true
}

// write writes a first service into the current directory, or nothing at all.
func (i initialization) write(stdout io.Writer) error {
	project, err := i.project()
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
	_, err = fmt.Fprintf(stdout, next, i.module)
	return err
}

func (i initialization) project() (quickstart.Project, error) {
	project := quickstart.Project{Module: i.module}
	if err := quickstart.CheckModule(i.module); err != nil {
		return project, err
	}
	if i.replace != "" {
		dir, err := replacement(i.replace)
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
