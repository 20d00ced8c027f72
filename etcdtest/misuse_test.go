package etcdtest_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// A permission for "" covers all keys. A permission without access has no effect.
func TestPermission_AllKeys(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, etcdtest.WithLogger(nil), etcdtest.WithAuth("secret",
		etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("")}},
		etcdtest.User{Name: "writer", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("")}},
		etcdtest.User{Name: "nobody", Password: "secret", Permissions: []etcdtest.Permission{{}}}))
	put(t, cluster.Client(t, etcdtest.As("writer", "secret")), "a", "1")
	reader := cluster.Client(t, etcdtest.As("reader", "secret"))
	wantValue(t, reader, "a", "1")
	if _, err := reader.Put(within(t, soon), "a", "2"); err == nil {
		t.Error("a reader writes")
	}
	if _, err := cluster.Client(t, etcdtest.As("nobody", "secret")).Get(within(t, soon), "a"); err == nil {
		t.Error("nobody reads")
	}
}

// Calls on a closed cluster return an error, and leave nothing behind.
func TestCluster_Closed(t *testing.T) {
	t.Parallel()
	cluster, err := etcdtest.New(t.TempDir())
	must(t, err)
	backup, err := cluster.Backup()
	must(t, err)
	cluster.Close()
	if _, err := cluster.Admin().Get(within(t, soon), "a"); err == nil {
		t.Error("the admin client of a closed cluster answers")
	}
	for what, do := range map[string]func() error{
		"Restart": cluster.Restart, "Wipe": cluster.Wipe, "RestoreBackup": func() error { return cluster.RestoreBackup(backup) },
		"Member.Restart": cluster.Member(0).Restart,
	} {
		if err := do(); err == nil {
			t.Errorf("%s of a closed cluster succeeds", what)
		}
	}
}

// New creates a directory, which one cluster uses at a time.
func TestNew_DirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	cluster, err := etcdtest.New(dir)
	must(t, err)
	if second, err := etcdtest.New(dir); err == nil {
		second.Close()
		t.Error("two clusters share a directory")
	}
	put(t, cluster.Admin(), "a", "1")
	cluster.Close()
	again, err := etcdtest.New(dir)
	must(t, err)
	again.Close()
}

// Concurrent restarts of a member do not wait for each other's server to end.
func TestMember_RestartsAtOnce(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t)
	const many = 8
	done := make(chan struct{}, many)
	for range many {
		go func() {
			_ = cluster.Member(0).Restart() // it fails if another call has stopped the member again
			done <- struct{}{}
		}()
	}
	for range many {
		select {
		case <-done:
		case <-within(t, soon).Done():
			t.Fatal("a restart hangs")
		}
	}
	put(t, cluster.Admin(), "a", "1")
}

// Calls that stop the members and copy or remove their data wait for each other: etcd ends the process of a server whose data disappears.
func TestCluster_RestartsAtOnce(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t)
	backup, err := cluster.Backup()
	must(t, err)
	var wg sync.WaitGroup
	for range 3 {
		for name, do := range map[string]func() error{
			"restart": cluster.Restart,
			"wipe":    cluster.Wipe,
			"restore": func() error { return cluster.RestoreBackup(backup) },
			"backup":  func() error { return second(cluster.Backup()) },
		} {
			wg.Go(func() {
				if err := do(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Go(func() {
			_ = cluster.Member(0).Restart() // it fails if another call has stopped the member again
		})
	}
	wg.Wait()
	put(t, cluster.Admin(), "a", "1")
}
