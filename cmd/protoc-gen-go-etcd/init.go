package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

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

// parseInit parses the arguments of init. ok reports whether they are valid.
func parseInit(args []string) (project quickstart.Project, ok bool) {
	if len(args) == 0 || args[0] != "init" {
		return project, false
	}
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&project.Connect, "connect", false, "")
	flags.Func("replace", "", func(dir string) error {
		if project.Replace = dir; dir == "" {
			return errors.New("DIR is empty")
		}
		return nil
	})
	err := flags.Parse(args[1:])
	project.Module = flags.Arg(0)
	return project, err == nil && flags.NArg() == 1
}

// initialize writes a first service into the current directory.
func initialize(project quickstart.Project, stdout io.Writer) error {
	buf := bufOnPath()
	project.BufOnPath = buf != ""
	if err := write(project); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	next := fmt.Sprintf(nextSteps, project.Module)
	if buf == "" {
		next += withOwnBuf
	} else {
		next += fmt.Sprintf(withBufOnPath, buf)
	}
	if file := output("go", "env", "GOWORK"); file != "" && file != "off" {
		next += fmt.Sprintf(inWorkspace, file)
	}
	_, err := io.WriteString(stdout, next)
	return err
}

func write(project quickstart.Project) (err error) {
	if project.Replace == "" {
		project.Version, err = released()
	} else {
		project.Replace, err = replacement(project.Replace)
	}
	if err != nil {
		return err
	}
	files, err := project.Files()
	if err == nil {
		err = quickstart.CheckEmpty(".")
	}
	if err != nil {
		return err
	}
	return quickstart.Write(".", files)
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

// released returns the version of this module, or an error if module proxies do not have it: a command that is built
// from a checkout or with a replacement has no checksum.
func released() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != quickstart.Self || info.Main.Sum == "" {
		return "", errors.New("this is a development build, whose version no module proxy has: " +
			"give -replace DIR, where DIR is a checkout of " + quickstart.Self)
	}
	return info.Main.Version, nil
}

// minBuf is the first version of buf that reads version v2 of buf.yaml and buf.gen.yaml, which init writes.
var minBuf = [2]int{1, 32}

// bufOnPath returns the version of the buf on the PATH, "" if the PATH has no buf, or one that is too old or prints no version.
func bufOnPath() string {
	version := output("buf", "--version")
	var got [2]int
	if _, err := fmt.Sscanf(version, "%d.%d.", &got[0], &got[1]); err != nil || slices.Compare(got[:], minBuf[:]) < 0 {
		return ""
	}
	return version
}

// output returns what a command on the PATH prints, "" if it fails.
func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // name is always a constant of this file
	cmd.WaitDelay = time.Second                    // the children of a script may keep the output open
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
