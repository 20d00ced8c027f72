package plan

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

func TestPlanIsPure(t *testing.T) {
	coretest.Check(t, "plan.go", "match.go", "placement.go", "drain.go", "lanes.go", "groups.go")
}
