package listwatch

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "core.go", "replica.go", "list.go", "set.go", "bounds.go", "pace.go")
}
