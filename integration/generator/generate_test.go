// Package generator tests the plugin from proto source to the bytes of its output.
//
//	go test .            compare with the committed files
//	go test . -update    write testdata and the options' Go package
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

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
)

// generate runs this plugin on a request.
func generate(t *testing.T, request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorResponse {
	t.Helper()
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := gen.Respond(raw)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// generated returns the files in the answer to a valid request.
func generated(t *testing.T, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, "protoc-gen-go-etcd", generate(t, request))
}

func contents(t *testing.T, plugin string, response *pluginpb.CodeGeneratorResponse) map[string]string {
	t.Helper()
	if response.Error != nil {
		t.Fatalf("%s returned the error %s", plugin, response.GetError())
	}
	files := map[string]string{}
	for _, file := range response.GetFile() {
		files[file.GetName()] = file.GetContent()
	}
	return files
}

var update = flag.Bool("update", false, "write what is generated instead of comparing with it")

// runTool returns the output of another project's plugin.
func runTool(t *testing.T, name string, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, name, answer(t, name, request))
}

// answer runs another project's plugin on a request. name is a tool of this module, or a package with
// a version.
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
