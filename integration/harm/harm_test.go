// Package harm holds the yardstick of this project: no caller is worse off than with gRPC's own policy
// over the same addresses (callers_*), and no server than with plain grant, put and keep-alive
// (servers_test.go). Both sides run at the same time, under the same faults.
package harm

import (
	"os"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// etcd is shared by all rows about callers. Each row has its own namespace.
var etcd *etcdtest.Cluster

// parallel bounds the rows that run at once: a row mostly waits.
const parallel = 6

func TestMain(m *testing.M) {
	os.Exit(leak.Main(parallel, func() int { return kit.OnEtcd(m, &etcd) }))
}
