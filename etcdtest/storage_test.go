package etcdtest_test

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func TestRestoreBackup(t *testing.T) {
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			cluster := etcdtest.Start(t, etcdtest.WithMembers(members))
			client := cluster.Client(t)
			lease, err := client.Grant(within(t, soon), 60)
			must(t, err)
			_, err = client.Put(within(t, soon), "leased", "v", clientv3.WithLease(lease.ID))
			must(t, err)
			put(t, client, "k", "then")
			_, then := get(t, client, "k")
			backup, err := cluster.Backup()
			must(t, err)

			for range 2 { // a backup can be restored again
				put(t, client, "k", "later")
				put(t, client, "new", "later")
				must(t, second(client.Delete(within(t, soon), "leased")))
				must(t, cluster.RestoreBackup(backup))
				wantValue(t, client, "k", "then")
				wantValue(t, client, "new", "")
				wantValue(t, client, "leased", "v")

				if _, now := get(t, client, "k"); now != then {
					t.Errorf("revision %d after the restore, want that of the backup, %d", now,
						then)
				}

				got, err := client.TimeToLive(within(t, soon), lease.ID,
					clientv3.WithAttachedKeys())
				if err != nil || got.TTL < 50 || len(got.Keys) != 1 {
					t.Errorf("the lease after the restore: %+v, %v; want a TTL of at least 50 s and one key",
						got, err)
				}
			}
		})
	}
}

func TestBackupOfAnotherCluster(t *testing.T) {
	backup, err := etcdtest.Start(t).Backup()
	must(t, err)

	if err := etcdtest.Start(t).RestoreBackup(backup); err == nil {
		t.Error("RestoreBackup with a backup of another cluster succeeds, want an error")
	}
}

// The alarm can be disarmed even after the leader that raised it was stopped.
func TestNoSpace(t *testing.T) {
	for _, members := range []int{1, 3} {
		cluster := etcdtest.Start(t, etcdtest.WithMembers(members))
		client := cluster.Client(t)
		put(t, client, "k", "v")
		leader, err := cluster.Leader(within(t, soon))
		must(t, err)
		must(t, cluster.SetNoSpace(within(t, soon), true))

		if _, err := client.Put(within(t, soon), "k", "w"); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("a put while there is no space: %v, want %v", err, rpctypes.ErrNoSpace)
		}

		if _, err := client.Grant(within(t, soon), 60); !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("a new lease while there is no space: %v, want %v", err, rpctypes.ErrNoSpace)
		}

		must(t, second(client.Delete(within(t, soon), "k"))) // deletions need no space

		if members > 1 {
			leader.Stop()
		}

		must(t, cluster.SetNoSpace(within(t, soon), false))
		put(t, client, "k", "w")
	}
}
