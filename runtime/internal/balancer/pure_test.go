package balancer

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "core.go", "plan.go", "methods.go", "lanes.go", "split.go", "select.go", "zones.go", "slowstart.go")
}
