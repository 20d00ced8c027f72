package generator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/types/pluginpb"
)

// wantName is the file in an archive with the expected error text.
const wantName = "want"

// TestErrors generates the proto files of each archive in testdata/errors and compares the error with
// the archive's. The archive's comment is for readers, except for lines that a case may have:
//
//	parameter: PARAMETER    otherwise paths=source_relative
//	positions: statements   as protoc gives them, or none; otherwise as buf does
//	generate: FILE...       only these, otherwise all
func TestErrors(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(dataDir, "errors", "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases:", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { testError(t, path) })
	}
}

func testError(t *testing.T, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	archive := txtar.Parse(raw)
	response := generate(t, errorRequest(t, archive))
	if n := len(response.GetFile()); n > 0 {
		t.Errorf("wrote %d files in spite of the error", n)
	}
	got := response.GetError() + "\n"
	want := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == wantName })
	if want < 0 {
		archive.Files, want = append(archive.Files, txtar.File{Name: wantName}), len(archive.Files)
	}
	if *update {
		archive.Files[want].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
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
	where, parameter := everyField, "paths=source_relative"
	for line := range strings.Lines(string(archive.Comment)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name + " " + value {
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
