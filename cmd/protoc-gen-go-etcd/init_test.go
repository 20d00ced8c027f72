package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/quickstart"
)

// checkout returns the path to this module.
func checkout(t *testing.T) string {
	t.Helper()

	dir, err := filepath.Abs("../..")
	must.Succeed(t, err)

	return dir
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	must.Succeed(t, os.WriteFile(name, []byte(text), 0o600))
}

// runInit runs init in the current directory, and checks its exit code.
func runInit(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()

	return runWith(t, want, os.Stdin, append([]string{"init"}, args...)...)
}

func TestInit(t *testing.T) {
	t.Chdir(t.TempDir())
	must.Succeed(t, os.Mkdir("src", 0o750))
	writeFile(t, "src/go.mod", "module "+quickstart.Self+"\n")
	writeFile(t, ".gitignore", "mine")

	stdout, _ := runInit(t, 0, "-replace=src", "example.com/hello")
	wantText(t, "stdout", stdout, "Your .gitignore stays as it is")

	// a second run in the same directory
	_, stderr := runInit(t, 1, "-replace=src", "example.com/hello")
	wantText(t, "stderr", stderr, "init: the directory has a module, which init leaves as it is.")

	for file, want := range map[string]string{
		".gitignore":     "mine",
		"go.mod":         " => ./src\n",
		"tools/go.mod":   "module example.com/hello/tools\n",
		"server/main.go": `"example.com/hello/gen/hello/v1"`,
		"third_party/etcd/etcd/discovery/v1/options.proto": "package etcd.discovery.v1;",
		"proto/hello/v1/hello.proto":                       `"example.com/hello/gen/hello/v1;hellov1"`,
	} {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), want) {
			t.Errorf("init writes %s without %q, error %v", file, want, err)
		}
	}
}

// TestInitInAWorkspace runs init in a directory that belongs to another module.
// It checks that init says so and, if the go command would use a go.work, how
// to generate code.
func TestInitInAWorkspace(t *testing.T) {
	source := checkout(t)
	for _, tt := range []struct{ name, gowork, want string }{
		{"found above", "", "go.work\n"},
		{"named", "/else/where.work", "\n/else/where.work\n"},
		{"turned off", "off", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "go.work"), "go 1.26.0\n")
			writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/outer\n")
			must.Succeed(t, os.Mkdir(filepath.Join(dir, "hello"), 0o750))
			t.Chdir(filepath.Join(dir, "hello"))
			t.Setenv("GOWORK", tt.gowork)

			stdout, _ := runInit(t, 0, "-replace", source, "example.com/hello")
			wantText(t, "what it says of the module", stdout,
				"was part of the module of "+filepath.Join(dir, "go.mod"))
			_, said, _ := strings.Cut(stdout, "GOWORK=off")
			wantText(t, "what it says of the workspace", said, tt.want)
		})
	}
}

// TestInitOnPath checks that a recent buf on the PATH generates the code or,
// without one, a protoc with protobuf's own files.
func TestInitOnPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the programs of this test are shell scripts")
	}

	const (
		own    = "go:generate bin/buf generate\n"
		buf    = "go:generate buf generate\n"
		protoc = " proto/hello/v1/hello.proto\n"
	)

	source := checkout(t)
	for _, tt := range []struct{ program, script, generates, says string }{
		{"cat", "", own, "go generate builds buf"},
		{"buf", "echo 1.31.0", own, "go generate builds buf"},
		{"buf", "echo 1.32.0", buf, "the buf that is on the PATH, 1.32.0. "},
		{"buf", "echo 2.0.0-rc1", buf, "the buf that is on the PATH, 2.0.0-rc1. "},
		{"buf", "echo 1.50.0; exit 1", own, "go generate builds buf"},
		{"buf", "echo buffer 1.50.0", own, "go generate builds buf"},
		{"protoc", "echo libprotoc 29.3", protoc,
			"the protoc that is on the PATH, libprotoc 29.3. "},
		{"protoc", `[ "$*" = --version ] && echo libprotoc 29.3`, own, "go generate builds buf"},
	} {
		for _, flags := range [][]string{{}, {"-connect"}} {
			t.Run(tt.program+" "+tt.script+strings.Join(flags, ""), func(t *testing.T) {
				bin := t.TempDir()
				program := filepath.Join(bin, tt.program)
				script := []byte("#!/bin/sh\n" + tt.script + "\n")
				must.Succeed(t, os.WriteFile(program, script, 0o700)) //nolint:gosec // the script must be executable

				t.Setenv("PATH", bin)
				t.Chdir(t.TempDir())
				stdout, _ := runInit(t, 0,
					slices.Concat(flags, []string{"-replace", source, "example.com/hello"})...)
				wantText(t, "what it says", stdout, tt.says)

				text, err := os.ReadFile("generate.go")
				if err != nil || !strings.Contains(string(text), tt.generates) {
					t.Errorf("generate.go is %s, error %v, want %q in it", text, err, tt.generates)
				}
			})
		}
	}
}

// TestInitRefuses checks that init writes nothing when it fails.
func TestInitRefuses(t *testing.T) {
	source := checkout(t)
	other := t.TempDir()
	writeFile(t, filepath.Join(other, "go.mod"), "module example.com/other\n")

	tests := []struct {
		name   string
		args   []string
		file   string // that exists already
		stderr string
	}{
		{"a development build", []string{"example.com/hello"}, "", "this is a development build"},
		{"a replacement that is not there", []string{"-replace", "nowhere", "example.com/hello"},
			"", "-replace nowhere: want a checkout of"},
		{"another module as replacement", []string{"-replace", other, "example.com/hello"}, "",
			"go.mod is of another module"},
		{"a key that is too long",
			[]string{"-replace", source, "example.com/hello", strings.Repeat("a", 3000)}, "",
			"cannot name a service"},
		{"a file of its own", []string{"-replace", source, "example.com/hello"}, "buf.yaml",
			`the directory has "buf.yaml"`},
		{"a module", []string{"-replace", source, "example.com/hello/v2"}, "go.mod",
			`(etcd.discovery.v1.service).key = "hello";`},
		{"a module for Connect", []string{"-connect", "-replace", source, "example.com/hello"},
			"go.mod", "connect=true"},
		{
			"a name that Go reserves",
			[]string{"-replace", source, "example.com/internal"},
			"",
			"give a KEY that ends in a short word of letters, as in: init example.com/internal acme/shop",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())

			if tt.file != "" {
				writeFile(t, tt.file, "mine")
			}

			stdout, stderr := runInit(t, 1, tt.args...)
			wantText(t, "stdout", stdout, "")
			wantText(t, "stderr", stderr, tt.stderr)

			entries, err := os.ReadDir(".")
			if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != tt.file {
				t.Errorf("a failed init leaves %v, error %v, want only %q", entries, err, tt.file)
			}
		})
	}
}
