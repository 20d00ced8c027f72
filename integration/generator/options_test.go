package generator

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOptionsPackage says that the options' Go package is what protoc-gen-go makes
// of options.proto.
func TestOptionsPackage(t *testing.T) {
	files := sources{}
	files.readDir(t, filepath.Join(protoDir, filepath.Dir(optionsProto)), filepath.Dir(optionsProto))
	generated := runTool(t, "protoc-gen-go", files.compile(t, everyField, "paths=source_relative"))
	if *update {
		writeFiles(t, protoDir, generated)
	}
	for name, want := range generated {
		got, err := os.ReadFile(filepath.Join(protoDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is not up to date; run `go test . -update` (-want +got):\n%s", name, diff)
		}
	}
}
