package main

import (
	"os/exec"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestWire(t *testing.T) {
	showtest.Run(t, tell, "hello, wire", "nothing is left in etcd")
}

// TestGenerated fails when wire_gen.go is not what wire makes of wire.go.
func TestGenerated(t *testing.T) {
	if output, err := exec.CommandContext(t.Context(), "go", "tool", "wire", "diff", ".").CombinedOutput(); err != nil {
		t.Errorf("run go tool wire ./wire: %v\n%s", err, output)
	}
}
