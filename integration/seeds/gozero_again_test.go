package seeds

import (
	"slices"
	"testing"

	"github.com/zeromicro/go-zero/core/discov"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// TestGoZero_ListsAgain checks what the README says of go-zero's subscriber: it notices that etcd was wiped or restored
// from a backup, since it lists again when its connection is back.
func TestGoZero_ListsAgain(t *testing.T) {
	kit.Night(t)
	const key = "user.rpc"
	for name, replace := range map[string]func(*etcdtest.Cluster, *etcdtest.Backup) error{
		"wiped":    func(etcd *etcdtest.Cluster, _ *etcdtest.Backup) error { return etcd.Wipe() },
		"restored": (*etcdtest.Cluster).RestoreBackup,
	} {
		t.Run(name, func(t *testing.T) {
			etcd := etcdtest.Start(t)
			put := func(name string) {
				t.Helper()
				if _, err := etcd.Admin().Put(kit.Bounded(t, soon), key+"/"+name, name); err != nil {
					t.Fatal(err)
				}
			}
			backup, err := etcd.Backup()
			must(t, err)
			put("10.0.0.1:9000")
			subscriber, err := discov.NewSubscriber(etcd.Endpoints(), key)
			must(t, err)
			defer subscriber.Close()
			follows := func(want ...string) {
				t.Helper()
				kit.Eventually(t, 2*soon, "go-zero sees the entries", func() bool {
					return slices.Equal(slices.Sorted(slices.Values(subscriber.Values())), want)
				})
			}
			follows("10.0.0.1:9000")
			must(t, replace(etcd, backup))
			follows()
			put("10.0.0.2:9000")
			follows("10.0.0.2:9000")
		})
	}
}
