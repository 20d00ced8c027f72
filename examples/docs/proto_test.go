package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// generator is the example whose go.mod has the tools that generate code.
const generator = "../shop"

const protoHead = `syntax = "proto3";
package page%[1]d.v1;
import "etcd/discovery/v1/options.proto";
option go_package = "example.com/page%[1]d;page";
message User { string id = 1; }
message GetRequest { User user = 1; }
message GetReply {}
`

const protoTemplate = `{"version": "v2", "plugins": [
	{"local": ["go", "tool", "protoc-gen-go"], "out": %[1]q, "opt": "paths=source_relative"},
	{"local": ["go", "tool", "protoc-gen-go-grpc"], "out": %[1]q, "opt": "paths=source_relative"},
	{"local": ["go", "tool", "protoc-gen-go-etcd"], "out": %[1]q, "opt": "paths=source_relative"}
]}`

// TestProto generates code from the services of the pages.
func TestProto(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "buf.yaml"), "version: v2\nmodules:\n  - path: proto\n  - path: etcd\n")
	export := exec.CommandContext(t.Context(), "go", "tool", "protoc-gen-go-etcd", "export", filepath.Join(dir, "etcd"))
	export.Dir = generator
	if output, err := export.CombinedOutput(); err != nil {
		t.Fatalf("export: %v\n%s", err, output)
	}
	blocks := all(t, "proto")
	for i, b := range blocks {
		file := filepath.Join(dir, "proto", fmt.Sprintf("page%d/v1/page.proto", i))
		write(t, file, fmt.Sprintf(protoHead, i)+fmt.Sprintf("// %s:%d\n", b.page, b.line)+b.text)
	}
	out := t.TempDir()
	generate := exec.CommandContext(t.Context(), "go", "tool", "buf", "generate", filepath.Join(dir, "proto"), "--template", fmt.Sprintf(protoTemplate, out))
	generate.Dir = generator
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, output)
	}
	generated, err := filepath.Glob(filepath.Join(out, "page*/v1/*_etcd.pb.go"))
	if err != nil || len(generated) != len(blocks) {
		t.Errorf("%d of %d blocks gave code: %v, %v", len(generated), len(blocks), generated, err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
