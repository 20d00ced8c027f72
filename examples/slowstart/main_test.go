package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestSlowStart(t *testing.T) {
	showtest.Run(t, tell, "two servers warm up", "the new server began with a small share, and now has its full one")
}
