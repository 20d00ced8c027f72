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

const nextSteps = `Wrote a first service, module %s. To generate its code and build it into bin:

  go generate -x

`

const withOwnBuf = `The first time this takes some minutes: it downloads buf and its plugins, 110 MB, and builds them, which takes 1.4 GB of Go's caches.
`

const withBufOnPath = `This runs the buf that is on the PATH, %s, and downloads and builds its plugins the first time.
`

const inWorkspace = `
In the environment set GOWORK=off first, since this is in the workspace of
%s
and buf and the plugins are built in a module that belongs in none.
`

// initialization holds the arguments of the command init.
type initialization struct {
	module  string
	replace string // a checkout of this module to use; "" for the version that this command was built from
	connect bool   // for connect-go instead of gRPC
}

// parseInit parses the arguments of init. It reports whether they are valid.
func parseInit(args []string) (initialization, bool) {
	var i initialization
	if len(args) == 0 || args[0] != "init" {
		return i, false
	}
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&i.connect, "connect", false, "")
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

// run writes a first service into the current directory, or nothing if it fails.
func (i initialization) run(stdout io.Writer) error {
	file, err := workspace()
	buf := bufOnPath()
	if err == nil {
		err = i.write(buf != "")
	}
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	next := fmt.Sprintf(nextSteps, i.module)
	if buf == "" {
		next += withOwnBuf
	} else {
		next += fmt.Sprintf(withBufOnPath, buf)
	}
	if file != "" {
		next += fmt.Sprintf(inWorkspace, file)
	}
	_, err = io.WriteString(stdout, next)
	return err
}

// workspace returns the path of the go.work that the go command would use here, "" if there is none.
func workspace() (string, error) {
	switch file := os.Getenv("GOWORK"); file {
	case "":
	case "off":
		return "", nil
	default:
		return file, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		file := filepath.Join(dir, "go.work")
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

func (i initialization) write(bufOnPath bool) error {
	project, err := i.project()
	if err != nil {
		return err
	}
	project.BufOnPath = bufOnPath
	files, err := project.Files()
	if err != nil {
		return err
	}
	if err := quickstart.CheckEmpty("."); err != nil {
		return err
	}
	return quickstart.Write(".", files)
}

func (i initialization) project() (quickstart.Project, error) {
	if i.replace != "" {
		dir, err := replacement(i.replace)
		return quickstart.Project{Module: i.module, Replace: dir, Connect: i.connect}, err
	}
	version, ok := released()
	if !ok {
		return quickstart.Project{}, errors.New("this is a development build, whose version no module proxy has: " +
			"give -replace DIR, where DIR is a checkout of " + quickstart.Self)
	}
	return quickstart.Project{Module: i.module, Version: version, Connect: i.connect}, nil
}

// moduleLine matches the module path in a go.mod.
var moduleLine = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)"?`)

// replacement checks the directory of -replace, and returns its absolute path.
func replacement(dir string) (string, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("-replace %s: want a checkout of %s: %w", dir, quickstart.Self, err)
	}
	if match := moduleLine.FindSubmatch(gomod); match == nil || string(match[1]) != quickstart.Self {
		return "", fmt.Errorf("-replace %s: want a checkout of %s, but its go.mod is of another module", dir, quickstart.Self)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("-replace %s: %w", dir, err)
	}
	return abs, nil
}

// released returns the version of this module. ok is false if module proxies do not have it: a command that is built
// from a checkout or with a replacement has no checksum.
func released() (version string, ok bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != quickstart.Self || info.Main.Sum == "" {
		return "", false
	}
	return info.Main.Version, true
}
