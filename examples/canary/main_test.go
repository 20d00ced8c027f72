package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

// tell compares the shares with what is wanted, within a point; a new picker in the middle of a count
// moves them by a few calls.
func TestCanary(t *testing.T) {
	showtest.Run(t, tell, "5 % for v2: new ", "nothing for old-1: new ", "no live config: new ")
}
