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

const nextSteps = `Wrote %s.v1.%s, found by the key %s, in module %s. Next:

  go generate -x   # generates its code, and builds its programs into bin
  bin/server &     # announces itself in the etcd at 127.0.0.1:2379
  bin/client       # calls it

An etcd to try it on: %s &
`

const withOwnBuf = `go generate builds buf, since the PATH has neither buf 1.32 or newer, nor protoc with protobuf's own files. The first time takes two minutes on two cores, downloads 110 MB, and takes 1.4 GB of Go's caches.
`

const withOnPath = `go generate runs the %s that is on the PATH, %s. The first time takes half a minute on two cores: it downloads and builds the plugins.
`

const toAdd = `the directory has a module, which init leaves as it is. To add discovery to its services:

  %[1]s
  go tool protoc-gen-go-etcd export third_party/etcd

and in the files

  buf.yaml       modules:  - path: third_party/etcd
  buf.gen.yaml   inputs:   - directory: proto           # where your proto files are, and not third_party/etcd
                 plugins:  - local: [go, tool, protoc-gen-go-etcd]
                             strategy: all      # it compares the keys of all packages
                             out: gen                   # the out and opt that %[3]s has
                             opt: %[4]s
  *.proto        import "etcd/discovery/v1/options.proto";
                 option (etcd.discovery.v1.service).key = %[2]q;   # in each service, with a key of its own

Then generate, and add what the generated code imports:

  buf generate
  go mod tidy

With a vendor directory, run go mod vendor before go tool and at the end. If GOWORK names a workspace without this module, set GOWORK=off.
docs/setup.md has more, also without buf`

const keptIgnore = `Your .gitignore stays as it is: add /bin/ to it.
`

const inModule = `This directory was part of the module of %s, and is now a module of its own.
`

const inWorkspace = `
In the environment set GOWORK=off first, since this is in the workspace of
%s
and buf and the plugins are built in a module that belongs in none.
`

// parseInit parses the arguments after init.
func parseInit(args []string) (project quickstart.Project, err error) {
	flags := flag.NewFlagSet("init", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&project.Connect, "connect", false, "")

	flags.Func("replace", "", func(dir string) error {
		project.Replace = dir

		if dir == "" {
			return errors.New("DIR is empty")
		}

		return nil
	})

	err = flags.Parse(args)
	project.Module = flags.Arg(0)
	project.Key = flags.Arg(1)

	switch {
	case err != nil:
	case flags.NArg() == 0 || flags.NArg() > 2 || strings.HasPrefix(project.Key, "-"):
		err = errors.New("want the flags first, then MODULE, then at most one KEY")
	case flags.NArg() == 2 && project.Key == "":
		err = errors.New("KEY is empty: leave it out, or give one such as acme/shop")
	}

	return project, err
}

// initialize writes a first service into the current directory.
func initialize(project quickstart.Project, stdout io.Writer) error {
	outer := output("go", "env", "GOMOD") // before there is a go.mod here

	var version string
	project.OnPath, version = onPath()
	names, kept, err := write(&project)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}

	etcd := "go run " + quickstart.Self + "/etcdtest/cmd/etcd@" + project.Version
	if project.Replace != "" {
		etcd = fmt.Sprintf("go -C %q run ./cmd/etcd",
			filepath.Join(project.Replace, "etcdtest"))
	}

	next := fmt.Sprintf(nextSteps,
		names.Package, names.Service, names.Key, project.Module, etcd)
	if project.OnPath == "" {
		next += withOwnBuf
	} else {
		next += fmt.Sprintf(withOnPath, project.OnPath, version)
	}

	if kept {
		next += keptIgnore
	}

	if outer != "" && outer != os.DevNull {
		next += fmt.Sprintf(inModule, outer)
	}

	if file := output("go", "env", "GOWORK"); file != "" && file != "off" {
		next += fmt.Sprintf(inWorkspace, file)
	}

	_, err = io.WriteString(stdout, next)

	return err
}

// write writes the project's files, and returns the names of its service.
// keptIgnore reports whether there was a .gitignore, which stays.
func write(
	project *quickstart.Project,
) (names quickstart.Names, keptIgnore bool, err error) {
	if project.Replace == "" {
		project.Version, err = released()
	} else {
		project.Replace, err = replacement(project.Replace)
	}

	if err != nil {
		return names, false, err
	}

	names, err = project.Names()
	if err != nil {
		return names, false, err
	}

	if _, err := os.Stat("go.mod"); err == nil {
		return names, false, additions(project, names.Key)
	}

	files, err := project.Files()
	if err != nil {
		return names, false, err
	}

	if _, err := os.Lstat(".gitignore"); err == nil {
		keptIgnore = true
		delete(files, ".gitignore")
	}

	return names, keptIgnore, quickstart.Write(".", files)
}

// additions returns, as an error, what to add to a module that exists.
func additions(project *quickstart.Project, key string) error {
	const plugin = quickstart.Self + "/cmd/protoc-gen-go-etcd"
	get := "go get -tool " + plugin + "@" + project.Version
	modules := []string{""}
	other := "protoc-gen-go-grpc"
	opt := "paths=source_relative"

	if project.Connect {
		modules = append(modules, "/connectetcd")
		other = "protoc-gen-connect-go"
		opt = "[paths=source_relative, connect=true]"
		get += "\n  go get " + quickstart.Self + "/connectetcd@" + project.Version
	}

	if project.Replace != "" {
		get = "go mod edit"
		for _, below := range modules {
			path := quickstart.Self + below
			get += fmt.Sprintf(" -require %[1]s@v0.0.0 -replace %[2]q",
				path, path+"="+project.Replace+below)
		}

		get += " -tool " + plugin + "\n  go mod tidy"
	}

	return fmt.Errorf(toAdd, get, key, other, opt)
}

// moduleLine matches the go.mod of this module.
var moduleLine = regexp.MustCompile(
	`(?m)^module\s+"?` + regexp.QuoteMeta(quickstart.Self) + `(["\s]|$)`)

// replacement checks the directory of -replace, and returns it in the form of
// go.mod. A relative path stays relative, so that the two directories can be
// moved together.
func replacement(dir string) (string, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("-replace %s: want a checkout of %s: %w",
			dir, quickstart.Self, err)
	}

	if !moduleLine.Match(gomod) {
		return "", fmt.Errorf(
			"-replace %s: want a checkout of %s, but its go.mod is of another module",
			dir, quickstart.Self)
	}

	dir = filepath.ToSlash(filepath.Clean(dir))
	if filepath.IsLocal(dir) {
		dir = "./" + dir // otherwise go.mod would read it as a module path
	}

	return dir, nil
}

// released returns the version of this module. It fails if no module proxy has
// that version: a command that is built from a checkout or with a replacement
// has no checksum.
func released() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != quickstart.Self || info.Main.Sum == "" {
		return "", errors.New("this is a development build, whose version no module proxy has: give -replace DIR, where DIR is a checkout of " +
			quickstart.Self)
	}

	return info.Main.Version, nil
}

// minBuf is the first version of buf that reads version v2 of buf.yaml and
// buf.gen.yaml, which init writes.
var minBuf = [2]int{1, 32}

// onPath returns the program on the PATH that generates code, and its version:
// buf or, without one that is new enough, protoc.
func onPath() (name, version string) {
	version = output("buf", "--version")
	var got [2]int
	_, err := fmt.Sscanf(version, "%d.%d.", &got[0], &got[1])
	if err == nil && slices.Compare(got[:], minBuf[:]) >= 0 {
		return "buf", version
	}

	// This command fails with protoc 2, and without protobuf's own files, which
	// Debian has in a separate package.
	numbers := output("protoc",
		"--print_free_field_numbers", "google/protobuf/descriptor.proto")
	if numbers == "" {
		return "", ""
	}

	return "protoc", output("protoc", "--version")
}

// output returns what a command on the PATH prints, "" if it fails.
func output(name string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // name is always a constant of this file

	// the children of a script may keep the output open
	cmd.WaitDelay = time.Second

	out, err := cmd.Output()
	if err != nil {
		return ""
	}

	return strings.TrimSpace(string(out))
}
