package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestCanary(t *testing.T) {
	showtest.Run(t, tell, "5 % for v2: new 5.", "nothing for old-1: new 50.", "no live config: new 33.")
}
