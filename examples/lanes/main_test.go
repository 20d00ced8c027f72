package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestLanes(t *testing.T) {
	showtest.Run(t, tell, "once it has one: branch 100.0 %", "all other calls: main-1 ", "when the branch is gone: main-1 ")
}
