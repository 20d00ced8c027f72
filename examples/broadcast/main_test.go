package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestBroadcast(t *testing.T) {
	showtest.Run(t, tell, "while d came up: each of a b c was called once", "with d: each of a b c d was called once", `instance "e"`)
}
