package docs

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// quickstartDir is the directory of the README's service.
const quickstartDir = "../quickstart"

// TestEtcdAway checks that the client ends without etcd, with an error that names the address that refused the connection.
func TestEtcdAway(t *testing.T) {
	client := filepath.Join(t.TempDir(), "client")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", client, "./client")
	build.Dir = quickstartDir
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	addr := porttest.Refusing(t)
	output, err := exec.CommandContext(t.Context(), client, "-etcd", addr).CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		t.Fatalf("%v, want a failure\n%s", err, output)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "dial tcp "+addr+": connect: connection refused") {
		t.Errorf("the last line is %s", last)
	}
}
