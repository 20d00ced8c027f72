package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// mirrored is what a mirror has told.
type mirrored struct {
	mu      sync.Mutex
	keys    map[string]bool
	parts   []KeyRange
	failed  error
	changed chan struct{} // holds one when something was told
}

func (m *mirrored) tell(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// follow mirrors everything, with quick looks whether etcd answers.
func follow(t *testing.T, etcd *etcdtest.Cluster, relist time.Duration, change ...func(*clientv3.Config)) *mirrored {
	t.Helper()
	cfg := etcd.Config()
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(cfg, "", 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirrored{changed: make(chan struct{}, 1)}
	mirror := Mirror{
		Store: s, Ranges: []KeyRange{Everything}, relist: relist, recheck: 20 * time.Millisecond,
		Listed: func(l Listing) {
			m.tell(func() {
				m.keys, m.parts, m.failed = make(map[string]bool), l.Parts, nil
				for key := range l.Entries {
					m.keys[key] = true
				}
			})
		},
		Changed: func(_ int64, events []*clientv3.Event) {
			m.tell(func() {
				for _, e := range events {
					m.keys[string(e.Kv.Key)] = e.Type == clientv3.EventTypePut
				}
			})
		},
		Failed: func(err error) { m.tell(func() { m.failed = err }) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); mirror.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
	return m
}

// await returns once what was told is as wanted.
func (m *mirrored) await(t *testing.T, what string, ok func(m *mirrored) bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		m.mu.Lock()
		now := ok(m)
		m.mu.Unlock()
		if now {
			return
		}
		select {
		case <-m.changed:
		case <-deadline:
			t.Fatalf("%s: not told; known are %v in %v, failed: %v", what, slices.Collect(maps.Keys(m.keys)), m.parts, m.failed)
		}
	}
}

// has wants keys to be there, and those after "-" not to be.
func has(keys string) func(*mirrored) bool {
	return func(m *mirrored) bool {
		for key := range strings.FieldsSeq(keys) {
			if name, gone := strings.CutPrefix(key, "-"); m.keys[name] == gone {
				return false
			}
		}
		return true
	}
}

func put(t *testing.T, etcd *etcdtest.Cluster, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if _, err := etcd.Admin().Put(t.Context(), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
}

// An etcd that is away is told, and what changed meanwhile is told after.
func TestMirror_Away(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "a")
	m := follow(t, etcd, 0)
	m.await(t, "the first list", has("a"))
	put(t, etcd, "b")
	m.await(t, "a change", has("a b"))
	etcd.Cut()
	m.await(t, "etcd does not answer", func(m *mirrored) bool { return m.failed != nil })
	put(t, etcd, "c")
	etcd.Restore()
	m.await(t, "etcd answers again", func(m *mirrored) bool { return m.failed == nil && has("a b c")(m) })
}

// An etcd that was restored from a backup is listed anew.
func TestMirror_Restored(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "a")
	backup, err := etcd.Backup()
	if err != nil {
		t.Fatal(err)
	}
	put(t, etcd, "ghost", "ghost", "ghost", "ghost")
	m := follow(t, etcd, 0)
	m.await(t, "the first list", has("a ghost"))
	if err := etcd.RestoreBackup(backup); err != nil {
		t.Fatal(err)
	}
	put(t, etcd, "new")
	m.await(t, "what is there now", has("a new -ghost"))
	put(t, etcd, "newer")
	m.await(t, "a change after", has("a new newer"))
}

// Rights that are granted and revoked are noticed, and a right to one key alone counts.
func TestMirror_Rights(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret",
		etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("a/")}}))
	admin := etcd.Admin()
	put(t, etcd, "a/1", "b/1", "c")
	user, err := admin.UserGet(t.Context(), "reader")
	if err != nil {
		t.Fatal(err)
	}
	grant := func(from, end string) {
		t.Helper()
		if _, err := admin.RoleGrantPermission(t.Context(), user.Roles[0], from, end, clientv3.PermissionType(clientv3.PermRead)); err != nil {
			t.Fatal(err)
		}
	}
	m := follow(t, etcd, 200*time.Millisecond, etcdtest.As("reader", "secret"))
	m.await(t, "the part that may be read", has("a/1 -b/1 -c"))
	grant("b/", "b0")
	grant("c", "")
	m.await(t, "what is granted", has("a/1 b/1 c"))
	if want := []KeyRange{PrefixRange("a/"), PrefixRange("b/"), KeyOnly("c")}; !slices.Equal(m.parts, want) {
		t.Errorf("it reads %v, not %v", m.parts, want)
	}
	put(t, etcd, "b/2")
	m.await(t, "a change of it", has("b/2"))
	if _, err := admin.RoleRevokePermission(t.Context(), user.Roles[0], "a/", "a0"); err != nil {
		t.Fatal(err)
	}
	m.await(t, "what was revoked", has("-a/1 b/1"))
	for _, r := range [][2]string{{"b/", "b0"}, {"c", ""}} {
		if _, err := admin.RoleRevokePermission(t.Context(), user.Roles[0], r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	m.await(t, "that nothing may be read", func(m *mirrored) bool { return errors.Is(m.failed, ErrDenied) })
}
