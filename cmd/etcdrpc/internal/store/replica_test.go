package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// told is what a replica has told.
type told struct {
	mu      sync.Mutex
	keys    map[string]bool
	parts   []KeyRange
	failed  error
	changed chan struct{} // holds one when something was told
}

func (m *told) tell(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// soon bounds what would hang.
const soon = 30 * time.Second

// follow follows everything, of which some of a range is wanted, with quick looks whether etcd answers.
func follow(t *testing.T, etcd *etcdtest.Cluster, wanted KeyRange, relist time.Duration, change ...func(*clientv3.Config)) *told {
	t.Helper()
	cfg := etcd.Config()
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(cfg, "", soon)
	if err != nil {
		t.Fatal(err)
	}
	m := &told{changed: make(chan struct{}, 1)}
	replica := &Replica{Store: s, Ranges: []KeyRange{Everything}, Wanted: wanted, relist: relist, recheck: 20 * time.Millisecond}
	replica.Changed = func([]Change) {
		m.tell(func() {
			entries, l := replica.Look()
			m.keys, m.parts = make(map[string]bool), l.Parts
			for _, e := range entries {
				m.keys[e.Key] = true
			}
		})
	}
	replica.Failed = func(err error) { m.tell(func() { m.failed = err }) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); replica.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
	return m
}

// await returns once what was told is as wanted.
func (m *told) await(t *testing.T, what string, ok func(m *told) bool) {
	t.Helper()
	for deadline := time.After(soon); ; {
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
func has(keys string) func(*told) bool {
	return func(m *told) bool {
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
func TestReplica_Away(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "a")
	m := follow(t, etcd, Everything, 0)
	m.await(t, "the first list", has("a"))
	put(t, etcd, "b")
	m.await(t, "a change", has("a b"))
	etcd.Cut()
	m.await(t, "etcd does not answer", func(m *told) bool { return m.failed != nil })
	put(t, etcd, "c")
	etcd.Restore()
	m.await(t, "etcd answers again", func(m *told) bool { return m.failed == nil && has("a b c")(m) })
}

// An etcd that was restored from a backup is listed anew.
func TestReplica_Restored(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "a")
	backup, err := etcd.Backup()
	if err != nil {
		t.Fatal(err)
	}
	put(t, etcd, "ghost", "ghost", "ghost", "ghost")
	m := follow(t, etcd, Everything, 0)
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
func TestReplica_Rights(t *testing.T) {
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
	m := follow(t, etcd, Everything, 200*time.Millisecond, etcdtest.As("reader", "secret"))
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
	m.await(t, "that nothing may be read", func(m *told) bool { return errors.Is(m.failed, ErrDenied) })
}

// What is wanted stays as it was known while the user may read none of it, though there is something else that may be read.
func TestReplica_Wanted(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret",
		etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("a/"), etcdtest.ReadOnly("b/")}}))
	admin := etcd.Admin()
	put(t, etcd, "a/1", "b/1")
	user, err := admin.UserGet(t.Context(), "reader")
	if err != nil {
		t.Fatal(err)
	}
	m := follow(t, etcd, PrefixRange("b/"), 200*time.Millisecond, etcdtest.As("reader", "secret"))
	m.await(t, "the first list", has("a/1 b/1"))
	if _, err := admin.RoleRevokePermission(t.Context(), user.Roles[0], "b/", "b0"); err != nil {
		t.Fatal(err)
	}
	m.await(t, "that what is wanted may not be read", func(m *told) bool { return errors.Is(m.failed, ErrDenied) })
	m.await(t, "what was known of it", has("a/1 b/1"))
	if _, err := admin.RoleGrantPermission(t.Context(), user.Roles[0], "b/", "b0", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	put(t, etcd, "b/2")
	m.await(t, "what is there once it may be read again", func(m *told) bool { return m.failed == nil && has("b/1 b/2")(m) })
}

// What a list has that no watch told counts as changed, as far as both lists could be read.
func TestReplica_List(t *testing.T) {
	t.Parallel()
	list := func(parts []KeyRange, entries ...survey.Entry) Listing {
		l := Listing{Entries: make(map[string]survey.Entry), Parts: parts}
		for _, e := range entries {
			l.Entries[e.Key] = e
		}
		return l
	}
	at := func(key, value string, created, modified int64) survey.Entry {
		return survey.Entry{Key: key, Value: []byte(value), CreateRevision: created, ModRevision: modified}
	}
	all, acme := []KeyRange{Everything}, []KeyRange{PrefixRange("acme/")}
	for name, c := range map[string]struct {
		before, after Listing
		want          []string
		told          bool
	}{
		"the first":     {Listing{}, list(all, at("acme/user/a", "1", 2, 2)), nil, true},
		"as before":     {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "1", 2, 2)), nil, false},
		"one that came": {list(all), list(all, at("acme/user/a", "1", 2, 2)), []string{"2 put acme/user/a"}, true},
		"one that went": {list(all, at("acme/user/a", "1", 2, 2)), list(all), []string{"0 deleted acme/user/a"}, true},
		"changed":       {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "2", 2, 3)), []string{"3 changed acme/user/a"}, true},
		"gone and back": {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "1", 4, 4)), []string{"4 put acme/user/a"}, true},
		"another of the same revision, from a backup": {
			list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "2", 2, 2)), []string{"2 changed acme/user/a"}, true,
		},
		"the latest last": {
			list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/b", "", 9, 9), at("acme/user/c", "", 8, 8)),
			[]string{"0 deleted acme/user/a", "8 put acme/user/c", "9 put acme/user/b"}, true,
		},
		"a right that was granted": {list(acme), list(all, at("other/a", "1", 2, 2)), nil, true},
		"a right that was revoked": {list(all, at("other/a", "1", 2, 2)), list(acme), nil, true},
	} {
		var got []string
		told := false
		r := Replica{Changed: func(changes []Change) {
			told = true
			for _, change := range changes {
				what := "changed"
				switch {
				case change.Created:
					what = "put"
				case change.Deleted:
					what = "deleted"
				}
				got = append(got, fmt.Sprint(change.Revision, " ", what, " ", change.Key))
			}
		}}
		if r.listing = c.before; c.before.Entries != nil {
			r.listing.Edition = 1
		}
		if r.replace(c.after); !slices.Equal(got, c.want) || told != c.told {
			t.Errorf("%s: %q, told %t; want %q, %t", name, got, told, c.want, c.told)
		}
	}
}
