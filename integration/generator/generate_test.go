// Package generator tests which code and which errors the plugin writes for
// proto files.
//
//	go test .            compare the code with testdata
//	go test . -update    write the code to testdata
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

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
)

// generate runs this plugin on a request.
func generate(
	t *testing.T,
	request *pluginpb.CodeGeneratorRequest,
) *pluginpb.CodeGeneratorResponse {
	t.Helper()

	raw, err := proto.Marshal(request)
	kit.Must(t, err)
	response, err := gen.Respond(raw)
	kit.Must(t, err)

	return response
}

// generated runs this plugin on a valid request and returns the files that it
// generates, by name.
func generated(t *testing.T, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, "protoc-gen-go-etcd", generate(t, request))
}

func contents(
	t *testing.T,
	plugin string,
	response *pluginpb.CodeGeneratorResponse,
) map[string]string {
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

var update = flag.Bool("update", false, "write generated code to testdata instead of comparing it")

// runTool runs another project's plugin on a request and returns the files that
// it generates.
func runTool(t *testing.T, name string, request *pluginpb.CodeGeneratorRequest) map[string]string {
	t.Helper()
	return contents(t, name, answer(t, name, request))
}

// answer runs another project's plugin on a request. name is a tool of module
// integration, or PACKAGE@VERSION.
func answer(
	t *testing.T,
	name string,
	request *pluginpb.CodeGeneratorRequest,
) *pluginpb.CodeGeneratorResponse {
	t.Helper()

	wire, err := proto.Marshal(request)
	kit.Must(t, err)
	var stdout, stderr bytes.Buffer

	verb := "tool"
	if strings.Contains(name, "@") {
		verb = "run"
	}

	cmd := exec.CommandContext(t.Context(), "go", verb, name)
	cmd.Stdin = bytes.NewReader(wire)
	cmd.Stdout = &stdout
	cmd.Stderr = &stderr

	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s %s: %v\n%s", verb, name, err, &stderr)
	}

	response := new(pluginpb.CodeGeneratorResponse)
	kit.Must(t, proto.Unmarshal(stdout.Bytes(), response))

	return response
}

// writeFiles writes files under dir.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()

	for name, content := range files {
		path := filepath.Join(dir, name)
		kit.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		kit.Must(t, os.WriteFile(path, []byte(content), 0o644))
	}
}
