package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestAffinity(t *testing.T) {
	showtest.Run(t, tell, "no cart in pieces", "cart-3 left: its ")
}
