package balancer

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "core.go", "selection.go")
}
