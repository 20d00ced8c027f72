package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestSeveral(t *testing.T) {
	showtest.Run(t, tell, "two keys, one lease: [shop/catalog/", "receipt for order of tea", "drained: []")
}
