package kit

import (
	"os"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// OnEtcd runs the tests of a package that share one etcd, for its TestMain, and returns the exit code. Each test has a
// namespace of its own.
func OnEtcd(m *testing.M, etcd **etcdtest.Cluster) int {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if *etcd, err = etcdtest.New(dir); err != nil {
		panic(err)
	}
	defer (*etcd).Close()
	return m.Run()
}
