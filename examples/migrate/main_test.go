package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestMigrate(t *testing.T) {
	showtest.Run(t, tell, "before: calls reach old-1, old-2", "the old servers have left", "the new layout alone: calls reach new-1, new-2", "none failed")
}
