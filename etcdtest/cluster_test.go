package etcdtest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// soon bounds a step that takes milliseconds, on a busy machine.
const soon = 30 * time.Second

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)

	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, client clientv3.KV, key, value string) {
	t.Helper()

	if _, err := client.Put(within(t, soon), key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// get returns the value of a key, "" if it does not exist, and the revision of
// the answer.
func get(t *testing.T, client clientv3.KV, key string) (value string, revision int64) {
	t.Helper()

	answer, err := client.Get(within(t, soon), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}

	if len(answer.Kvs) > 0 {
		value = string(answer.Kvs[0].Value)
	}

	return value, answer.Header.Revision
}

func wantValue(t *testing.T, client clientv3.KV, key, want string) {
	t.Helper()

	if got, _ := get(t, client, key); got != want {
		t.Fatalf("%s is %q, want %q", key, got, want)
	}
}

func TestNew_RefusesInvalidOptions(t *testing.T) {
	for name, opt := range map[string]etcdtest.Option{
		"no members":      etcdtest.WithMembers(0),
		"no such address": etcdtest.WithAddress("nowhere"),
		"a TTL under 1s":  etcdtest.WithTokenTTL(time.Millisecond),
	} {
		if _, err := etcdtest.New(t.TempDir(), opt); err == nil {
			t.Errorf("New with %s succeeds, want an error", name)
		}
	}
}

func TestMember_StopsAndRestarts(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
	client := cluster.Client(t)
	leader, err := cluster.Leader(t.Context())
	must(t, err)

	leader.Stop()
	leader.Stop()

	next, err := cluster.Leader(within(t, soon))
	if err != nil || next == leader {
		t.Fatalf("the next leader is %v, %v; want another member than %v", next, err, leader)
	}

	put(t, client, "k", "v")
	next.Stop()

	if _, err := client.Put(within(t, time.Second), "k", "w"); err == nil {
		t.Fatal("one running member of three accepts a write, want an error")
	}

	cluster.Stop()
	must(t, leader.Restart()) // without a quorum
	must(t, next.Restart())

	alone := cluster.Client(t, func(cfg *clientv3.Config) {
		cfg.Endpoints = []string{leader.Endpoint()}
	})
	put(t, alone, "k", "x")
}

func TestMember_PausePeersElectsNewLeader(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
	old, err := cluster.Leader(t.Context())
	must(t, err)
	old.PausePeers()

	for next := old; next == old; {
		next, err = cluster.Leader(within(t, soon))
		must(t, err)
	}

	old.ResumePeers()
	put(t, cluster.Client(t), "k", "v")

	ofOld := cluster.Client(t, func(cfg *clientv3.Config) {
		cfg.Endpoints = []string{old.Endpoint()}
	})
	wantValue(t, ofOld, "k", "v")
}

// A restarted member sends its first messages by POST. While these messages are
// withheld, the member does not become ready.
func TestMember_PausePeersWithholdsPosts(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
	leader, err := cluster.Leader(t.Context())
	must(t, err)

	member := cluster.Member(0)
	if member == leader {
		member = cluster.Member(1)
	}

	member.PausePeers()
	restarted := make(chan error, 1)
	go func() { restarted <- member.Restart() }()

	select {
	case err := <-restarted:
		t.Errorf("Restart of a paused member returns %v, want that it waits", err)
	case <-time.After(time.Second):
		member.ResumePeers()
		must(t, <-restarted)
	}
}

func TestWithMaxConcurrentStreams(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithMaxConcurrentStreams(1))
	client := cluster.Client(t)
	put(t, client, "k", "v")
	ctx, cancel := context.WithCancel(t.Context())

	watch := client.Watch(ctx, "k", clientv3.WithCreatedNotify())
	if created, ok := <-watch; !ok || !created.Created {
		t.Fatalf("the watch begins with %v, want that it is created", created)
	}

	if _, err := client.Get(within(t, time.Second), "k"); err == nil {
		t.Error("a call beside a watch gets an answer on one stream, want a timeout")
	}

	cancel()
	wantValue(t, client, "k", "v")
}

func TestCluster_RestartKeepsDataAndWipeResetsRevision(t *testing.T) {
	for _, members := range []int{1, 3} {
		cluster := etcdtest.Start(t, etcdtest.WithMembers(members))
		client := cluster.Client(t)
		for range 5 {
			put(t, client, "k", "v")
		}

		must(t, cluster.Restart())
		wantValue(t, client, "k", "v")
		_, before := get(t, client, "k")
		must(t, cluster.Wipe())

		value, after := get(t, client, "k")
		if value != "" || after >= before {
			t.Errorf("%d members: value %q, revision %d after the wipe; want no value, and a revision below %d",
				members, value, after, before)
		}
	}
}

func TestCompact(t *testing.T) {
	cluster := etcdtest.Start(t)
	client := cluster.Client(t)
	put(t, client, "k", "v1")
	put(t, client, "k", "v2")
	revision, err := cluster.Compact(within(t, soon))
	must(t, err)

	_, err = client.Get(t.Context(), "k", clientv3.WithRev(revision-1))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a get before the compacted revision: error %v, want %v", err,
			rpctypes.ErrCompacted)
	}
}

// Clients get no answer during a cut or a pause, but the admin client does. A
// paused cluster can be closed.
func TestCutAndPause(t *testing.T) {
	cluster := etcdtest.Start(t)
	client := cluster.Client(t)
	put(t, client, "k", "v")

	open, err := net.Dial("tcp", strings.TrimPrefix(cluster.Member(0).Endpoint(), "http://"))
	must(t, err)
	defer open.Close()

	cluster.Cut()

	if _, err := io.ReadAll(open); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection from before the cut: %v, want a reset", err)
	}

	if _, err := client.Get(within(t, 200*time.Millisecond), "k"); err == nil {
		t.Error("a get during a cut succeeds, want an error")
	}

	wantValue(t, cluster.Admin(), "k", "v")
	cluster.Restore()
	wantValue(t, client, "k", "v")
	cluster.Pause()

	for name, client := range map[string]*clientv3.Client{
		"an old": client,
		"a new":  cluster.Client(t),
	} {
		_, err := client.Get(within(t, 200*time.Millisecond), "k")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a get of %s client during a pause: %v, want %v", name, err,
				context.DeadlineExceeded)
		}
	}

	cluster.Resume()
	wantValue(t, client, "k", "v")
	cluster.Pause()
}

func second[T any](_ T, err error) error {
	return err
}

func TestCalls(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
	client := cluster.Client(t, func(cfg *clientv3.Config) {
		cfg.Endpoints = []string{cluster.Member(2).Endpoint()}
	})
	calls := cluster.Calls()
	ctx := within(t, soon)

	must(t, second(client.Get(ctx, "user/", clientv3.WithPrefix(), clientv3.WithSerializable())))

	first := etcdtest.Call{
		Op:           etcdtest.Range,
		Member:       2,
		Key:          "user/",
		End:          "user0",
		Serializable: true,
	}
	if all := calls.All(); len(all) != 1 || all[0] != first {
		t.Errorf("calls %+v, want only %+v", all, first)
	}

	get(t, client, "user-admin/a")
	put(t, cluster.Admin(), "user/a", "v")

	lease, err := client.Grant(ctx, 60)
	must(t, err)
	must(t, second(client.KeepAliveOnce(ctx, lease.ID)))

	_, err = client.Txn(ctx).If(clientv3.Compare(clientv3.Version("user/b"), "=", 0)).
		Then(clientv3.OpPut("user/b", "v", clientv3.WithLease(lease.ID)),
			clientv3.OpPut("user/c", "v")).
		Else(clientv3.OpGet("user/b")).Commit()
	must(t, err)

	watches := []clientv3.WatchChan{
		client.Watch(ctx, "user/", clientv3.WithPrefix()),
		client.Watch(ctx, "other/"),
	}
	must(t, calls.Wait(ctx, etcdtest.Watch, "", len(watches)))

	for _, want := range []struct {
		op     etcdtest.Op
		prefix string
		count  int
	}{
		{etcdtest.Range, "", 3},
		{etcdtest.Range, "user/", 2},
		{etcdtest.Range, "user-admin/", 1},
		{etcdtest.Put, "user/", 2},
		{etcdtest.Txn, "", 1},
		{etcdtest.LeaseGrant, "", 1},
		{etcdtest.LeaseKeepAlive, "", 1},
		{etcdtest.Watch, "user/", 1},
		{etcdtest.DeleteRange, "", 0},
	} {
		if got := calls.Count(want.op, want.prefix); got != want.count {
			t.Errorf("%d %s requests for %q, want %d", got, want.op, want.prefix, want.count)
		}
	}

	calls.Reset()

	if all := calls.All(); len(all) != 0 {
		t.Errorf("calls after a reset: %+v, want none", all)
	}

	short := within(t, 10*time.Millisecond)
	err = calls.Wait(short, etcdtest.Put, "", 1)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a request that is not sent: %v, want %v", err,
			context.DeadlineExceeded)
	}
}

// Calls on a closed cluster return an error, and start no server.
func TestCluster_Closed(t *testing.T) {
	t.Parallel()

	cluster, err := etcdtest.New(t.TempDir())
	must(t, err)
	backup, err := cluster.Backup()
	must(t, err)

	cluster.Close()
	cluster.Close() // a second Close has no effect

	if _, err := cluster.Admin().Get(within(t, soon), "a"); err == nil {
		t.Error("a get of the admin client of a closed cluster succeeds, want an error")
	}

	for what, do := range map[string]func() error{
		"Restart":        cluster.Restart,
		"Wipe":           cluster.Wipe,
		"RestoreBackup":  func() error { return cluster.RestoreBackup(backup) },
		"Member.Restart": cluster.Member(0).Restart,
	} {
		if err := do(); err == nil {
			t.Errorf("%s of a closed cluster succeeds, want an error", what)
		}
	}
}

// New creates its directory, and refuses a directory that another cluster uses.
func TestNew_DirectoryInUse(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "made")
	cluster, err := etcdtest.New(dir)
	must(t, err)

	if second, err := etcdtest.New(dir); err == nil {
		second.Close()
		t.Error("New with the directory of another cluster succeeds, want an error")
	}

	put(t, cluster.Admin(), "a", "1")
	cluster.Close()

	again, err := etcdtest.New(dir)
	must(t, err)
	again.Close()
}

// Calls that stop the members and copy or remove their data wait for each
// other. Otherwise etcd ends the process when data disappears. A restart of a
// member does not wait for a server that another call has stopped.
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
					t.Errorf("%s beside other calls: %v, want no error", name, err)
				}
			})
		}

		for range 3 {
			wg.Go(func() {
				err := cluster.Member(0).Restart()
				if err != nil && !strings.Contains(err.Error(), "stopped while it started") {
					t.Errorf("restart a member beside other calls: %v, want no error but that another call stopped it again", err)
				}
			})
		}
	}

	wg.Wait()
	put(t, cluster.Admin(), "a", "1")
}
