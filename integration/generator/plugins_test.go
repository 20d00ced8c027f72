package generator

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

var update = flag.Bool("update", false, "write what is generated instead of comparing with it")

// runTool returns the output of another project's plugin.
func runTool(t *testing.T, name string, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, name, answer(t, name, request))
}

// answer runs another project's plugin on the request: a tool of this module, or a package at its own
// version.
func answer(t *testing.T, name string, request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	wire, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	verb := "tool"
	if strings.Contains(name, "@") {
		verb = "run"
	}
	cmd := exec.CommandContext(t.Context(), "go", verb, name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(wire), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s %s: %v\n%s", verb, name, err, &stderr)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(stdout.Bytes(), response); err != nil {
		t.Fatal(err)
	}
	return response
}

// writeFiles writes files under dir.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
