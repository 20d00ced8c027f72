package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestZones(t *testing.T) {
	showtest.Run(t, tell, "caller in eu-1a: near-1 ",
		"whose servers have left: far 100.0 %", "which has one again: near-3 100.0 %")
}
