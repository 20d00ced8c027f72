package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	embedded "github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

func TestArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")

	tests := []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // the text that they must contain
	}{
		{"version", []string{"--version"}, 0, "protoc-gen-go-etcd ", ""},
		{"help", []string{"--help"}, 0, "usage: ", ""},
		{"help for export", []string{"export", "--help"}, 0, "usage: ", ""},
		{"help for init", []string{"init", "-h"}, 0, "usage: ", ""},
		{"unknown flag", []string{"--nope"}, 2, "",
			`unexpected arguments ["--nope"]` + "\nusage: "},
		{"unknown command", []string{"import", "x"}, 2, "", "usage: "},
		{"an argument after --version", []string{"--version", "x"}, 2, "", "usage: "},
		{"export without a directory", []string{"export"}, 2, "", "usage: "},
		{"export of an unknown flag", []string{"export", "--force"}, 2, "",
			`unexpected arguments ["export" "--force"]`},
		{"export twice", []string{"export", "a", "b"}, 2, "", "usage: "},
		{"export to the empty name", []string{"export", ""}, 1, "", "DIR is empty"},
		{"export into a file", []string{"export", file}, 1, "", "export to " + file},
		{"init without a module", []string{"init"}, 2, "", "usage: "},
		{"init with an unknown flag", []string{"init", "--force", "example.com/a"}, 2, "",
			"usage: "},
		{"init of an empty key", []string{"init", "example.com/a", ""}, 2, "",
			"init: KEY is empty: leave it out"},
		{"init of two keys", []string{"init", "example.com/a", "b", "c"}, 2, "", "at most one KEY"},
		{"init with an empty -replace", []string{"init", "-replace", "", "example.com/a"}, 2, "",
			"usage: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr := runWith(t, tt.code, os.Stdin, tt.args...)
			wantText(t, "stdout", stdout, tt.stdout)
			wantText(t, "stderr", stderr, tt.stderr)
		})
	}
}

// runWith runs the command, and checks its exit code.
func runWith(
	t *testing.T,
	want int,
	stdin *os.File,
	args ...string,
) (stdout, stderr string) {
	t.Helper()

	var out, errs bytes.Buffer
	if code := run(args, stdin, &out, &errs); code != want {
		t.Fatalf("run(%q) = exit code %d, want %d: %s", args, code, want, &errs)
	}

	return out.String(), errs.String()
}

// wantText checks that a text contains want, or is empty if want is "".
func wantText(t *testing.T, name, got, want string) {
	t.Helper()

	if !strings.Contains(got, want) || want == "" && got != "" {
		t.Errorf("%s is %q, want %q in it", name, got, want)
	}
}

func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "third_party", "etcd")
	for range 2 { // the second time overwrites the first
		runWith(t, 0, os.Stdin, "export", dir)
	}

	const path = "etcd/discovery/v1/options.proto"
	got, err := os.ReadFile(filepath.Join(dir, path))
	must.Succeed(t, err)

	want, err := embedded.Files.ReadFile(path)
	must.Succeed(t, err)

	if !bytes.Equal(got, want) {
		t.Errorf("export writes %s with %d bytes, want the embedded file with %d",
			path, len(got), len(want))
	}
}

// TestPlugin runs the command as protoc does.
func TestPlugin(t *testing.T) {
	request := new(pluginpb.CodeGeneratorRequest)
	must.Succeed(t, prototext.Unmarshal([]byte(`
file_to_generate: "greeter.proto"
proto_file {
  name: "greeter.proto"
  syntax: "proto3"
  options { go_package: "example.com/greeter" }
  service {
    name: "Greeter"
    options { [etcd.discovery.v1.service] { key: "greeter" } }
  }
}`), request))

	tests := []struct {
		name, parameter string
		code            int
		stderr          string
	}{
		{"generate", "paths=source_relative", 0, ""},
		{"unknown parameter", "paths=source_relative,nope=1", 1, `unknown parameter "nope"`},
		{"bad parameter", "paths=nowhere", 1, "nowhere"},
		{"a suffix that no import path may have", "paths=source_relative,package_suffix=\u00e9", 1,
			"package_suffix=\u00e9: want ASCII letters"},
		{"a connect that is neither true nor false", "paths=source_relative,connect=maybe", 1,
			"connect=maybe: want true or false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request.Parameter = &tt.parameter
			stdout, stderr := runWith(t, tt.code, stdin(t, request))
			wantText(t, "stderr", stderr, tt.stderr)

			response := new(pluginpb.CodeGeneratorResponse)
			must.Succeed(t, proto.Unmarshal([]byte(stdout), response))

			if tt.code == 0 && (len(response.GetFile()) != 1 ||
				response.GetFile()[0].GetName() != "greeter_etcd.pb.go") {
				t.Errorf("response %v; want greeter_etcd.pb.go", response)
			}
		})
	}
}

// stdin returns a file with the request.
func stdin(t *testing.T, request *pluginpb.CodeGeneratorRequest) *os.File {
	t.Helper()

	wire, err := proto.Marshal(request)
	must.Succeed(t, err)
	path := filepath.Join(t.TempDir(), "request")
	must.Succeed(t, os.WriteFile(path, wire, 0o600))
	file, err := os.Open(path)
	must.Succeed(t, err)
	t.Cleanup(func() { file.Close() })

	return file
}
