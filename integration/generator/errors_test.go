package generator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// wantName names the file of an archive that has the expected error.
const wantName = "want"

// TestErrors generates code for the proto files of each archive in
// testdata/errors, and compares the error with the file "want" of the archive.
// These lines in the archive's comment change the request:
//
//	parameter: PARAMETER    instead of paths=source_relative
//	positions: statements   as protoc has them, or "none"; the default is everyField
//	generate: FILE...       only these files instead of all
func TestErrors(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(dataDir, "errors", "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/errors has %d archives, error %v, want some archives", len(paths), err)
	}

	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			testError(t, path)
		})
	}
}

func testError(t *testing.T, path string) {
	raw, err := os.ReadFile(path)
	kit.Must(t, err)
	archive := txtar.Parse(raw)

	response := generate(t, errorRequest(t, archive))
	if n := len(response.GetFile()); n > 0 {
		t.Errorf("%s: %d generated files, want none beside the error", path, n)
	}

	got := response.GetError() + "\n"
	want := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == wantName })
	if want < 0 {
		want = len(archive.Files)
		archive.Files = append(archive.Files, txtar.File{Name: wantName})
	}

	if *update {
		archive.Files[want].Data = []byte(got)
		kit.Must(t, os.WriteFile(path, txtar.Format(archive), 0o644))
	}

	if diff := cmp.Diff(string(archive.Files[want].Data), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func errorRequest(t *testing.T, archive *txtar.Archive) *pluginpb.CodeGeneratorRequest {
	t.Helper()

	files := sources{}
	var generate []string
	for _, f := range archive.Files {
		if f.Name == wantName {
			continue
		}

		files[f.Name] = string(f.Data)

		if f.Name != optionsProto {
			generate = append(generate, f.Name)
		}
	}

	where := everyField
	parameter := "paths=source_relative"
	for line := range strings.Lines(string(archive.Comment)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")

		switch name + " " + value {
		case "positions statements":
			where = statements
		case "positions none":
			where = none
		case "parameter " + value:
			parameter = value
		case "generate " + value:
			generate = strings.Fields(value)
		}
	}

	return files.compile(t, where, parameter, generate...)
}

// The allocations for a report of n errors in one file grow in proportion to n.
func TestManyProblems(t *testing.T) {
	allocated := func(n int) float64 {
		var file strings.Builder
		file.WriteString(`syntax = "proto3"; package demo; import "` + optionsProto +
			`"; option go_package = "example.com/demo"; message M {}
service Demo { option (etcd.discovery.v1.service).key = "demo";
`)

		for i := range n {
			fmt.Fprintf(&file,
				"rpc M%04d(M) returns (M) { option (etcd.discovery.v1.method).timeout = {}; }\n",
				i)
		}

		request := sources{"demo.proto": file.String() + "}"}.compile(t, everyField, "")

		return testing.AllocsPerRun(1, func() {
			lines := strings.Split(generate(t, request).GetError(), "\n")
			want := fmt.Sprintf(
				"demo.proto:%d:35: demo.Demo.M%04d: timeout is 0s: give it more than 0", n+2, n-1)
			if len(lines) != n || lines[n-1] != want {
				t.Errorf("%d errors, the last %q, want %d, the last %q",
					len(lines), lines[len(lines)-1], n, want)
			}
		})
	}

	if half, all := allocated(500), allocated(1000); all > 3*half {
		t.Errorf("allocations: %v for 500 errors, %v for 1000, want at most 3 times as many",
			half, all)
	}
}

// TestFileNames checks that line breaks in the name of a proto file are escaped
// in the code and in errors.
func TestFileNames(t *testing.T) {
	const name = "a\nfunc init() { panic(1) }\n//\u202e\r\x1b[2J.proto"
	const shown = "a\\nfunc init() { panic(1) }\\n//\\u202e\\r\\x1b[2J.proto"

	request := func(deprecated bool, key string) *pluginpb.CodeGeneratorRequest {
		made := new(pluginpb.CodeGeneratorRequest)
		kit.Must(t, prototext.Unmarshal(fmt.Appendf(nil, `
file_to_generate: %[1]q
parameter: "paths=source_relative"
proto_file {
  name: %[1]q
  syntax: "proto3"
  options { go_package: "example.com/demo" deprecated: %[2]t }
  service {
    name: "Demo"
    options { [etcd.discovery.v1.service] { key: %[3]q authority: "demo.acme.com" } }
  }
}`, name, deprecated, key), made))

		return made
	}

	for deprecated, want := range map[bool]string{
		false: "// source: " + shown + "\n",
		true:  "// " + shown + " is a deprecated file.\n",
	} {
		for _, content := range generated(t, request(deprecated, "demo")) {
			header, _, _ := strings.Cut(content, "package ")
			if _, line, _ := strings.Cut(header, "\n"); line != want+"\n" {
				t.Errorf("the code after its first line begins %q, want %q", line, want+"\n")
			}
		}
	}

	got := generate(t, request(false, "/")).GetError()
	want := shown + ": Demo: key "
	if !strings.HasPrefix(got, want) {
		t.Errorf("the error is %q, want it to begin %q", got, want)
	}
}
