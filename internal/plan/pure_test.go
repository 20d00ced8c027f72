package plan

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

func TestPlanIsPure(t *testing.T) {
	modelcheck.Check(t, "plan.go", "match.go", "placement.go", "drain.go", "lanes.go", "groups.go")
}
