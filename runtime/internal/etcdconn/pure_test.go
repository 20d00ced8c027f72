package etcdconn

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

func TestCoreIsPure(t *testing.T) {
	modelcheck.Check(t, "core.go", "../../../internal/etcdcause/etcdcause.go")
}
