// Command protoc-gen-go-etcd is a plugin of protoc and buf. For each service
// with the option (etcd.discovery.v1.service) it writes Go code that registers
// its servers in etcd and finds them there, next to the code of
// protoc-gen-go-grpc:
//
//	path/to/file_etcd.pb.go
//
// or, with the parameter connect=true, next to the code of
// protoc-gen-connect-go:
//
//	path/to/packageconnect/file_etcd.connect.go
//
// By hand it is run as
//
//	protoc-gen-go-etcd --version
//	protoc-gen-go-etcd export DIR
//	protoc-gen-go-etcd init [-connect] [-replace DIR] MODULE [KEY]
//
// where export writes the options' proto file under DIR. init writes a first
// service, as the module MODULE, into the current directory: for gRPC or, with
// -connect, for connect-go. The service is named after the last element of KEY
// or, without one, of MODULE.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

const usage = `usage: protoc-gen-go-etcd [--version | --help | export DIR | init [-connect] [-replace DIR] MODULE [KEY]]

Without arguments it is a plugin: protoc or buf run it, as in
  protoc --go-etcd_out=. --go-etcd_opt=paths=source_relative FILE.proto

  export DIR  write the options that proto files import to
              DIR/etcd/discovery/v1/options.proto
  init MODULE write a first service, a module of that path, into the current
              directory; in a module, print what to add
              KEY           its key in etcd; the last element names the service,
                            or without a KEY that of MODULE
              -connect      for connect-go instead of gRPC
              -replace DIR  have it use this project from the source in DIR
  --version   print the version
  --help      print this
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run returns the exit code: 1 after a failure, 2 for invalid arguments.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	complain := log.New(stderr, "protoc-gen-go-etcd: ", 0)
	var err error

	switch {
	case len(args) == 0 && isTerminal(stdin):
		complain.Printf("no request on standard input\n%s", usage)
		return 2
	case len(args) == 0:
		err = gen.Run(stdin, stdout)
	case len(args) == 1 && slices.Contains([]string{"--version", "-version"}, args[0]):
		_, err = fmt.Fprintln(stdout, "protoc-gen-go-etcd", version())
	case wantsHelp(args):
		_, err = io.WriteString(stdout, usage)
	case len(args) == 2 && args[0] == "export" && !strings.HasPrefix(args[1], "-"):
		err = export(args[1])

	case len(args) > 0 && args[0] == "init":
		project, invalid := parseInit(args[1:])
		if invalid != nil {
			complain.Printf("init: %v\n%s", invalid, usage)
			return 2
		}

		err = initialize(project, stdout)

	default:
		complain.Printf("unexpected arguments %q\n%s", args, usage)
		return 2
	}

	if err != nil {
		complain.Print(err)
		return 1
	}

	return 0
}

// wantsHelp reports whether the arguments are a help flag, alone or after the
// name of a command.
func wantsHelp(args []string) bool {
	if len(args) == 2 && slices.Contains([]string{"export", "init"}, args[0]) {
		args = args[1:]
	}

	return len(args) == 1 &&
		slices.Contains([]string{"--help", "-help", "-h"}, args[0])
}

// isTerminal reports whether f is a terminal, from which no request comes. The
// null device is a character device, too, but not a terminal.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}

	null, err := os.Stat(os.DevNull)

	return err != nil || !os.SameFile(info, null)
}

// version returns the version of the module that the command was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}

	return "(devel)"
}

// export writes the options' proto file under dir. It makes dir if necessary,
// and overwrites a file of that name.
func export(dir string) error {
	if dir == "" {
		return errors.New("export: DIR is empty: name a directory, . for this one")
	}

	write := func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		to := filepath.Join(dir, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(to, 0o777)
		}

		content, err := proto.Files.ReadFile(path)
		if err != nil {
			return err
		}

		return os.WriteFile(to, content, 0o666)
	}

	if err := fs.WalkDir(proto.Files, ".", write); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}

	return nil
}
