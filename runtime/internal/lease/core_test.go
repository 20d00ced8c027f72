package lease

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

func TestCoreIsPure(t *testing.T) {
	coretest.Check(t, "answers.go", "pacing.go", "slot.go", "leases.go", "entry.go", "candidate.go", "op.go", "core.go", "lifetime.go", "read.go", "write.go", "next.go")
}

// script is a life that is told what to do.
type script struct {
	*life
	entries map[string]*entry
}

func newScript(t *testing.T) *script {
	s := &script{life: newLife(t, 1), entries: make(map[string]*entry)}
	s.core.jitter = func(d time.Duration) time.Duration { return d }
	return s
}

// add registers keys with marks, each an entry.
func (s *script) add(keys ...string) {
	for _, key := range keys {
		s.items(key, item(key, "v"))
	}
}

func (s *script) items(name string, items []Item) {
	s.t.Helper()
	e, err := s.core.add(s.now, items, false)
	if err != nil {
		s.t.Fatal(err)
	}
	s.entries[name] = e
}

// addPaused registers a key with a mark that is not in etcd before it is resumed.
func (s *script) addPaused(key string) {
	s.t.Helper()
	e, err := s.core.add(s.now, item(key, "v"), true)
	if err != nil {
		s.t.Fatal(err)
	}
	s.entries[key] = e
}

// have registers keys, and forgets the calls for it.
func (s *script) have(keys ...string) {
	s.t.Helper()
	s.add(keys...)
	s.settle()
	for _, key := range keys {
		s.state(key, Registered)
	}
	s.calls = nil
}

// settle lets the session work until it waits.
func (s *script) settle() { s.run(20 * time.Millisecond) }

func (s *script) update(key, value string) {
	s.t.Helper()
	if err := s.entries[key].update(item(key, value), s.core.lease); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) want(key string, w want) {
	s.entries[key].setWant(w)
	s.core.refresh(s.now)
}

func (s *script) state(key string, want State) {
	s.t.Helper()
	if e := s.entries[key]; e.state != want {
		s.t.Errorf("%s is %s (%v), want %s", key, e.state, e.err, want)
	}
}

// fate has the next write lost (1), done without an answer (2) or late (3).
func (s *script) fate(f int) {
	s.fail = func() int { s.fail = func() int { return 0 }; return f }
}

// Each row is a rule: after do, these are the calls.
func TestCalls(t *testing.T) {
	const minute = time.Minute
	for _, row := range []struct {
		rule string
		do   func(s *script)
		want string // calls, separated by commas
	}{
		{"the first put creates", func(s *script) { s.add("a") }, "grant, put a"},
		{"puts share a transaction", func(s *script) { s.add("a", "b") }, "grant, put a b"},
		{"a key that is there is taken over", func(s *script) { s.etcd.put("a", "x", theirs); s.add("a") }, "grant, put a, put a"},
		{"what is paused needs no lease", func(s *script) { s.add("a"); s.want("a", paused) }, ""},
		{"nor does what starts paused", func(s *script) { s.addPaused("a") }, ""},
		{"what started paused is put when it is resumed", func(s *script) { s.addPaused("a"); s.settle(); s.want("a", present) }, "grant, put a"},
		{"an update is a put", func(s *script) { s.have("a"); s.update("a", "w") }, "put a"},
		{"an update that changes nothing writes nothing", func(s *script) { s.have("a"); s.update("a", "v") }, ""},
		{"an update that changes back writes nothing", func(s *script) { s.have("a"); s.update("a", "w"); s.update("a", "v") }, ""},
		{"a pause marks, and deletes", func(s *script) { s.have("a", "b"); s.want("a", paused) }, "mark a, remove a"},
		{"pauses share transactions", func(s *script) { s.have("a", "b", "c"); s.want("a", paused); s.want("b", gone) }, "mark a b, remove a b"},
		{"without room for a mark it is deleted at once", func(s *script) {
			s.have("b")
			s.items("a", []Item{{Key: func(clientv3.LeaseID) string { return "a" }, Value: "v"}})
			s.settle()
			s.calls = nil
			s.want("a", gone)
		}, "remove a"},
		{"with the last entry goes the lease", func(s *script) { s.have("a"); s.want("a", gone) }, "mark a, revoke 1"},
		{"S3: what is paused leaves no empty lease", func(s *script) { s.have("a"); s.want("a", paused) }, "mark a, revoke 1"},
		{"a resume puts", func(s *script) {
			s.have("a", "b")
			s.want("a", paused)
			s.settle()
			s.calls = nil
			s.want("a", present)
		}, "put a"},
		{"a resume after all else needs a lease", func(s *script) { s.have("a"); s.want("a", paused); s.settle(); s.calls = nil; s.want("a", present) }, "grant, put a"},
		{"a pause that is taken back at once does nothing", func(s *script) { s.have("a"); s.want("a", paused); s.want("a", present) }, ""},
		{"a pause that is taken back after its mark puts", func(s *script) {
			s.have("a", "b")
			s.want("a", paused)
			s.run(time.Microsecond)
			s.want("a", present)
		}, "mark a, put a"},
		{"a pause that is taken back during its mark puts, if that is not answered, lest it arrive late", func(s *script) {
			s.have("a", "b")
			s.want("a", paused)
			o, _ := s.core.next(s.now)
			s.want("a", present)
			s.core.writeFailed(s.now, o.(writeOp).steps, rpctypes.ErrTimeout)
			s.core.atRevision(s.now, 0)
			s.run(100 * time.Millisecond)
		}, "put a"},
		{"a mark is tried once", func(s *script) { s.have("a", "b"); s.fate(1); s.want("a", gone); s.run(2 * time.Second) }, "mark a, remove a, check a b"},
		{"a mark of what another process took finds that", func(s *script) { s.have("a", "b"); s.etcd.put("a", "x", theirs); s.want("a", gone) }, "mark a"},
		{"a mark that is denied is left out", func(s *script) { s.have("a", "b"); s.etcd.poisoned[1] = true; s.want("a", gone) }, "mark a, remove a"},
		{"a removal of what another process took finds that", func(s *script) {
			s.have("a", "b")
			s.entries["a"].slots[0].leaving = ""
			s.etcd.put("a", "x", theirs)
			s.want("a", gone)
		}, "remove a"},

		{"all is checked every 2 s", func(s *script) { s.have("a", "b"); s.run(2 * time.Second) }, "check a b"},
		{"less often where it is watched", func(s *script) { s.have("a"); s.core.watched = true; s.run(7 * time.Second) }, "check a"},
		{"G2: a deleted key is put back", func(s *script) { s.have("a"); s.etcd.remove("a"); s.run(2 * time.Second) }, "check a, put a"},
		{"G2: not faster than once a second", func(s *script) {
			s.have("a")
			for range 2 {
				s.run(2 * minute)
				s.calls = nil
				s.etcd.remove("a")
				s.core.nudge(s.now)
				s.settle()
				s.etcd.remove("a")
				s.run(checkMin)
				s.core.nudge(s.now)
				s.run(500 * time.Millisecond)
			}
		}, "check a, put a, check a"},
		{"G18: an overwritten key is put back", func(s *script) { s.have("a"); s.etcd.put("a", "x", 1); s.run(2 * time.Second) }, "check a, put a"},
		{"what is heard of is looked at at once", func(s *script) {
			s.have("a")
			s.run(minute)
			s.calls = nil
			s.etcd.remove("a")
			s.core.onEvent(s.now, "a", nil)
			s.run(checkMin)
		}, "check a, put a"},
		{"our own put is not", func(s *script) {
			s.have("a")
			s.run(minute)
			s.calls = nil
			s.core.onEvent(s.now, "a", &keyValue{value: "v", lease: 1, rev: 101})
			s.core.onEvent(s.now, "b", nil)
			s.run(checkMin)
		}, ""},
		{"a renewal that tells of an earlier revision has the keys checked", func(s *script) {
			s.have("a")
			s.run(2500 * time.Millisecond)
			s.calls = nil
			s.core.renewed(s.now, 1, ttl, 1)
		}, "check a"},
		{"G16: a key that is back is not wanted", func(s *script) {
			s.have("a", "b")
			s.want("a", gone)
			s.settle()
			s.calls = nil
			s.etcd.put("a", "v", 1)
			s.run(2 * time.Second)
		}, "check a b, grant, put b, revoke 1"},
		{"one that another process put is its own", func(s *script) {
			s.have("a", "b")
			s.want("a", gone)
			s.settle()
			s.calls = nil
			s.etcd.put("a", "x", theirs)
			s.run(4 * time.Second)
		}, "check a b, check b"},
		{"G16: an older revision is another past", func(s *script) { s.have("a"); s.core.revision += 100; s.run(2 * time.Second) }, "check a, read a, grant, put a, revoke 1"},
		{"G16: earlier leases that are back are revoked again", func(s *script) {
			s.have("a", "b")
			past := s.etcd.clone()
			s.want("b", gone)
			s.core.replaceLease(s.now, 1, errors.New("a test"))
			s.settle()
			s.calls = nil
			past.leases[2] = s.etcd.leases[2]
			s.etcd.restore(s.now, past)
			s.run(2 * time.Second)
		}, "check a, put a, revoke 1"},
		{"G4: what was left to another process is not taken back after a restore", func(s *script) {
			s.have("a", "b")
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.settle()
			s.calls = nil
			s.core.revision += 100
			s.run(2 * time.Second)
		}, "read a, read b, grant, put b, revoke 1"},
		{"an older put of another process is no conflict", func(s *script) {
			s.etcd.put("a", "x", theirs)
			past := s.etcd.clone()
			s.have("a")
			s.etcd.restore(s.now, past)
			s.etcd.rev += 1000
			s.run(3 * time.Second)
		}, "check a, read a, grant, put a, revoke 1"},
		{"G16: a deletion on a lease that etcd does not know is looked at, for a restored etcd may have the key on an earlier one", func(s *script) {
			s.have("a", "b")
			past := s.etcd.clone()
			s.core.replaceLease(s.now, 1, errors.New("test"))
			s.settle()
			s.calls = nil
			s.entries["a"].slots[0].leaving = ""
			s.etcd.restore(s.now, past)
			s.etcd.rev += 1000
			s.want("a", paused)
			s.core.lost(s.now, 2, errors.New("requested lease not found"))
		}, "read a, read a b, remove a, revoke 2"},
		{"what another process has is looked at before a pause of it counts", func(s *script) {
			s.have("a", "b")
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.settle()
			s.calls = nil
			s.want("a", paused)
		}, "read a"},
		{"for a restored etcd may have it as ours again", func(s *script) {
			s.have("a", "b")
			past := s.etcd.clone()
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.settle()
			s.calls = nil
			s.etcd.restore(s.now, past)
			s.etcd.rev += 1000
			s.want("a", paused)
		}, "read a, mark a, remove a"},
		{"a lease left alone after a reconnect revokes those before", func(s *script) {
			s.have("a")
			s.want("a", gone)
			s.settle()
			s.calls = nil
			s.core.reconnected(s.now)
		}, "revoke 1"},
		{"after many deletions the lease is left", func(s *script) {
			s.have("z")
			for i := range minTombstones {
				s.items("a", []Item{{Key: func(clientv3.LeaseID) string { return fmt.Sprint("k", i) }, Value: "v"}})
				s.settle()
				s.want("a", gone)
				s.calls = nil
				s.settle()
			}
		}, "remove k99, grant, put z, revoke 1"},

		{"G4: another process's key is looked at every 2 s", func(s *script) {
			s.have("a")
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.run(4 * time.Second)
		}, "check a, read a, read a"},
		{"it is taken when they let go", func(s *script) {
			s.have("a")
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.run(time.Second)
			s.etcd.remove("a")
			s.core.onEvent(s.now, "a", nil)
		}, "check a, read a, put a, check a"},

		{"G1: a lost lease is replaced", func(s *script) {
			s.have("a")
			s.run(56 * time.Second)
			s.calls = nil
			s.etcd.revoke(1)
			s.run(2 * time.Second)
		}, "check a, put a, grant, put a"},
		{"a lease that is lost young is not replaced at once", func(s *script) {
			s.have("a")
			s.core.lost(s.now, 1, errors.New("expired"))
			s.run(100 * time.Millisecond)
		}, ""},
		{"G3: a keepalive that ended is no dead lease", func(s *script) { s.have("a"); s.core.keepAliveEnded(s.now, 1, errors.New("ended")) }, "grant, put a, revoke 1"},
		{"S3: a lease that may not be renewed is left", func(s *script) { s.have("a"); s.core.renewalFailed(s.now, 1, rpctypes.ErrPermissionDenied) }, "grant, put a, revoke 1"},
		{"one that etcd does not know is lost", func(s *script) {
			s.have("a")
			s.run(minute)
			s.calls = nil
			s.etcd.revoke(1)
			s.core.renewalFailed(s.now, 1, rpctypes.ErrLeaseNotFound)
		}, "grant, put a"},
		{"one that was not answered lives on", func(s *script) { s.have("a"); s.core.renewalFailed(s.now, 1, status.Error(codes.Unavailable, "x")) }, ""},
		{"a key that is named by its lease moves too", func(s *script) {
			s.items("a", []Item{{Key: func(id clientv3.LeaseID) string { return fmt.Sprint("a", id) }, Value: "v"}})
			s.settle()
			s.calls = nil
			s.core.keepAliveEnded(s.now, 1, errors.New("ended"))
		}, "grant, put a2, revoke 1"},

		{"G17: a write without an answer is read back", func(s *script) { s.have("a"); s.fate(2); s.update("a", "w"); s.run(4 * time.Second) }, "put a, read a, check a"},
		{"G17: one that did not arrive may be late, and the lease is left", func(s *script) {
			s.have("a", "b")
			s.fate(1)
			s.update("a", "w")
			s.run(3500 * time.Millisecond)
		}, "put a, read a, grant, put a b, revoke 1, read a"},
		{"G17: a deletion as well", func(s *script) {
			s.have("a", "b")
			s.entries["a"].slots[0].leaving = ""
			s.fate(1)
			s.want("a", gone)
			s.run(3500 * time.Millisecond)
		}, "remove a, read a, remove a, grant, put b, revoke 1, read a"},

		{"G22: a refused batch is halved down to the key at fault", func(s *script) {
			s.add("a", "b", "c", "d")
			s.etcd.unwritable["c"] = true
			s.core.faultAt = s.now.Add(minute)
		}, "grant, put a b c d, put a b, put c d, put c, read c, put c, put d"},
		{"G22: etcd is full: removals go through", func(s *script) {
			s.have("a", "b")
			s.etcd.full = true
			s.update("b", "w")
			s.want("a", gone)
		}, "mark a, remove a"},
		{"puts are tried again, together", func(s *script) {
			s.have("b", "c")
			s.etcd.full = true
			s.update("b", "w")
			s.update("c", "w")
			s.run(300 * time.Millisecond)
			s.etcd.full = false
			s.run(300 * time.Millisecond)
		}, "put b c, put b c"},
		{"what etcd will not take is tried again by itself, ever less often", func(s *script) {
			s.have("b")
			s.etcd.large = true
			s.update("b", "w")
			s.run(7 * time.Second)
		}, "put b, check b, put b, check b, check b, put b"},
		{"S3: a denied put is taken for the lease's fault once", func(s *script) {
			s.have("a")
			s.etcd.poisoned[1] = true
			s.update("a", "w")
		}, "put a, read a, put a, grant, put a, revoke 1"},
		{"and then for the key's", func(s *script) {
			s.have("b")
			s.etcd.unwritable["a"] = true
			s.add("a")
			s.run(time.Second)
		}, "put a, read a, put a, grant, put b a, put b, put a, read a, put a, revoke 1"},
		{"a lease that may not be revoked loses its keys one by one", func(s *script) {
			s.have("a")
			s.etcd.poisoned[1] = true
			s.want("a", gone)
		}, "mark a, revoke 1, remove a"},
		{"G19: a key that may not be read is put as it is", func(s *script) { s.etcd.unreadable["a"] = true; s.add("a") }, "grant, put a, read a, blind a"},
		{"G19: nor one that could be read a moment ago", func(s *script) {
			s.have("a")
			s.run(2100 * time.Millisecond)
			s.etcd.unreadable["a"] = true
			s.update("a", "w")
		}, "check a, put a, read a, blind a"},
		{"G19: the others are checked", func(s *script) {
			s.etcd.unreadable["a"] = true
			s.have("a", "b")
			s.etcd.remove("b")
			s.run(2 * time.Second)
		}, "check b, put b"},
		{"G19: before it is put again, it is read", func(s *script) {
			s.etcd.unreadable["a"] = true
			s.have("a")
			s.run(1500 * time.Millisecond)
			s.update("a", "w")
		}, "read a, blind a"},
		{"G19: to remove it is to leave the lease", func(s *script) {
			s.etcd.unreadable["a"] = true
			s.have("a", "b")
			s.want("a", gone)
		}, "remove a, grant, put b, revoke 1"},
		{"G19: a write to it without an answer as well", func(s *script) {
			s.etcd.unreadable["a"] = true
			s.have("a")
			s.fate(1)
			s.update("a", "w")
			s.run(3100 * time.Millisecond)
		}, "blind a, read a, grant, blind a, revoke 1, blind a"},
		{"G19: a write without an answer to a key that may not be read any more as well", func(s *script) {
			s.have("a", "b")
			s.fate(1)
			s.update("a", "w")
			s.run(time.Microsecond)
			s.etcd.unreadable["a"] = true
			s.run(200 * time.Millisecond)
		}, "put a, read a, grant, blind a, put b, revoke 1, blind a"},
		{"too many requests do not make a key blind", func(s *script) {
			s.have("a")
			s.etcd.busy = true
			s.run(2050 * time.Millisecond)
			s.etcd.busy = false
			s.run(200 * time.Millisecond)
		}, "check a, check a, check a"},
		{"a deleted key that may not be read any more is left with its lease", func(s *script) {
			s.have("a", "b")
			s.want("a", gone)
			s.settle()
			s.calls = nil
			s.etcd.unreadable["a"] = true
			s.run(4 * time.Second)
		}, "check a b, check a, grant, put b, revoke 1, check b, check b"},
		{"a new entry takes a key from one that goes", func(s *script) { s.have("a", "b"); s.want("a", gone); s.add("a"); s.update("a", "w") }, "read a, put a"},
		{"a process that slept looks at once", func(s *script) {
			s.have("a")
			s.run(5 * time.Second)
			s.calls = nil
			s.core.lastWall = s.core.lastWall.Add(-minute)
		}, "check a"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			row.do(s)
			s.settle()
			if got := strings.Join(s.calls, ", "); got != row.want {
				t.Errorf("the calls are\n\t%s\nwant\n\t%s\n%s", got, row.want, strings.Join(s.log, "\n"))
			}
		})
	}
}

func TestBatches(t *testing.T) {
	s := newScript(t)
	for i := range 250 {
		s.add(fmt.Sprint("k", i))
	}
	for _, key := range []string{"big1", "big2"} {
		s.items(key, item(key, strings.Repeat("x", 700<<10)))
	}
	s.settle()
	var sizes []int
	for _, call := range s.calls[1:] {
		sizes = append(sizes, len(strings.Fields(call))-1)
	}
	if !slices.Equal(sizes, []int{100, 100, 51, 1}) {
		t.Errorf("batches of %v", sizes)
	}
}

// The lease is lost while a deletion on it is under way.
func TestDeletedOnALostLease(t *testing.T) {
	s := newScript(t)
	s.have("a", "b")
	s.entries["a"].slots[0].leaving = ""
	s.want("a", gone)
	o, _ := s.core.next(s.now)
	s.core.lost(s.now, 1, errors.New("expired"))
	s.core.wrote(s.now, o.(writeOp).steps, true, nil, s.core.revision)
	s.core.refresh(s.now)
	s.state("a", Closed)
}

// Writes that fail are tried less and less often, though the reads between them succeed.
func TestFailingWritesWait(t *testing.T) {
	s := newScript(t)
	s.have("a", "b")
	s.entries["a"].slots[0].leaving = ""
	s.want("a", gone)
	writes := 0
	for end := s.now.Add(5 * time.Second); s.now.Before(end); {
		o, wait := s.core.next(s.now)
		switch o := o.(type) {
		case writeOp:
			writes++
			s.core.writeFailed(s.now, o.steps, status.Error(codes.Unavailable, "no"))
		case nil:
			s.now = s.now.Add(wait)
		default:
			s.call(o)
		}
	}
	if writes > 20 {
		t.Errorf("%d writes in 5 s", writes)
	}
}

// A key of two entries is an error unless the first one goes.
func TestUpdateRefuses(t *testing.T) {
	s := newScript(t)
	s.have("a")
	if err := s.entries["a"].update(item("b", "v"), s.core.lease); err == nil {
		t.Error("an update changed the key")
	}
	if err := s.entries["a"].update(nil, s.core.lease); err == nil {
		t.Error("an update changed the layouts")
	}
	if _, err := s.core.add(s.now, item("a", "v"), false); err == nil {
		t.Error("two entries of one key")
	}
}

// Each row is a rule: the state of an entry, and whether etcd has it as wanted.
func TestSynced(t *testing.T) {
	for _, row := range []struct {
		rule  string
		do    func(s *script)
		state State
		ok    bool
		err   string
	}{
		{"not before it is in etcd", func(s *script) { s.add("a") }, Registering, false, ""},
		{"as soon as it is", func(s *script) { s.have("a") }, Registered, true, ""},
		{"not with another value", func(s *script) { s.have("a"); s.update("a", "w") }, Registered, false, ""},
		{"when it is paused", func(s *script) { s.have("a"); s.want("a", paused); s.settle() }, Paused, true, ""},
		{"not before it is gone", func(s *script) { s.have("a"); s.want("a", paused) }, Registered, false, ""},
		{"never once it is given up", func(s *script) { s.have("a"); s.want("a", gone); s.settle() }, Closed, false, "closed"},
		{"not while a put of what is to go is under way", func(s *script) {
			s.add("a")
			s.core.granted(s.now, s.now, 1, ttl)
			s.core.next(s.now)
			s.want("a", gone)
		}, Registering, false, "closed"},
		{"as soon as it starts paused", func(s *script) { s.addPaused("a") }, Paused, true, ""},
		{"G24: not while a deletion before a resume is under way", func(s *script) {
			s.have("a", "b")
			s.entries["a"].slots[0].leaving = ""
			s.want("a", paused)
			s.core.next(s.now)
			s.want("a", present)
		}, Registered, false, ""},
		{"G24: not while the mark of a pause before is", func(s *script) {
			s.have("a", "b")
			s.want("a", paused)
			s.core.next(s.now)
			s.want("a", present)
		}, Registered, false, ""},
		{"G24: not while the deletion of an entry before is", func(s *script) {
			s.have("a", "b")
			s.entries["a"].slots[0].leaving = ""
			s.want("a", gone)
			s.core.next(s.now)
			s.add("a")
		}, Registered, false, ""},
		{"G24: not while a put of another value is", func(s *script) {
			s.have("a")
			s.update("a", "w")
			s.core.next(s.now)
			s.update("a", "v")
		}, Registered, false, ""},
		{"a conflict says who", func(s *script) {
			s.have("a")
			s.etcd.put("a", "x", theirs)
			s.core.nudge(s.now)
			s.settle()
			s.run(checkMin)
		}, Conflict, false, `key "a" is held by another process, on lease 63: give each its own instance id`},
		{"or that nobody holds it", func(s *script) {
			s.have("a")
			s.etcd.put("a", "x", 0)
			s.run(3 * time.Second)
		}, Conflict, false, `key "a" was put by someone else, on no lease: delete it, or register under another instance id`},
		{"a refusal says why", func(s *script) { s.etcd.unwritable["a"] = true; s.add("a"); s.settle() }, Registering, false, `key "a": etcdserver: permission denied`},
		{"a full etcd", func(s *script) { s.etcd.full = true; s.add("a"); s.settle() }, Registering, false, "database space exceeded"},
		{"it registers while a lease moves", func(s *script) {
			s.have("a")
			s.core.keepAliveEnded(s.now, 1, errors.New("ended"))
			s.core.granted(s.now, s.now, 2, ttl)
		}, Registered, true, ""},
		{"it is lost when its lease is not renewed", func(s *script) {
			s.have("a")
			s.etcd.down = true
			s.run(2 * ttl)
		}, Lost, false, ""},
		{"it is lost, too, when its lease ends before etcd has answered a pause", func(s *script) {
			s.have("a")
			s.etcd.down = true
			s.want("a", paused)
			s.run(2 * ttl)
		}, Lost, false, ""},
		{"G24: not while the revocation that a pause has led to is under way", func(s *script) {
			s.have("a")
			s.entries["a"].slots[0].leaving = ""
			s.want("a", paused)
			if o, _ := s.core.next(s.now); o != (revokeOp{1}) {
				s.t.Errorf("a pause of the last key leads to %v", o)
			}
			s.want("a", present)
		}, Registering, false, ""},
		{"G16: nor out of etcd while earlier leases may be back", func(s *script) {
			s.have("a", "b")
			s.core.replaceLease(s.now, 1, errors.New("test"))
			s.settle()
			s.core.presumeAlive(s.now, 2)
			s.entries["a"].slots[0].leaving = ""
			s.want("a", paused)
			for s.entries["a"].remains() {
				o, _ := s.core.next(s.now)
				s.call(o)
			}
		}, Registered, false, ""},
		{"it comes back from a pause as new", func(s *script) {
			s.have("a")
			s.want("a", paused)
			s.settle()
			s.want("a", present)
		}, Registering, false, ""},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			row.do(s)
			e := s.entries["a"]
			s.state("a", row.state)
			ok, err := e.synced()
			if ok != row.ok || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("synced is %v, %v, want %v, %q", ok, err, row.ok, row.err)
			}
			if e.state == Lost && e.err == nil {
				t.Error("nothing says why it is lost")
			}
		})
	}
}

// An entry is lost as soon as its lease has expired, whatever is heard of first, and says why.
func TestG1_LostSaysWhy(t *testing.T) {
	s := newScript(t)
	s.have("a")
	s.now = s.now.Add(2 * ttl)
	s.core.failed(s.now, errors.New("no answer"))
	s.core.refresh(s.now)
	s.state("a", Lost)
	if e := s.entries["a"]; e.err == nil {
		t.Error("nothing says why it is lost")
	}
	s = newScript(t)
	s.have("a")
	s.core.keepAliveEnded(s.now, 1, errors.New("ended"))
	s.now = s.now.Add(2 * ttl)
	s.core.refresh(s.now)
	if e := s.entries["a"]; e.err == nil || e.err.Error() != "ended" {
		t.Errorf("the reason is %v", e.err)
	}
}

// G27: a lease is renewed out of turn from half of its life on, until an answer comes.
func TestG27_Renewal(t *testing.T) {
	s := newScript(t)
	due := func(want bool, wantWait time.Duration) {
		t.Helper()
		if got, wait := s.core.renewalDue(s.now, 1, s.core.elects()); got != want || wait != wantWait {
			t.Errorf("renewal is due: %v, and again in %v; want %v, %v", got, wait, want, wantWait)
		}
	}
	due(false, tick) // there is no lease
	s.have("a")
	s.core.renewed(s.now, 1, ttl, 0)
	due(false, ttl/2)
	s.now = s.now.Add(ttl / 2)
	due(true, ttl/renewSpacing)
	due(false, ttl/renewSpacing)
	s.now = s.now.Add(ttl / renewSpacing)
	due(true, ttl/renewSpacing)
	s.core.renewed(s.now, 1, ttl, 0)
	due(false, ttl/2)
	s.core.renewed(s.now, 7, ttl, 0) // not ours

	inUse := func(want ...clientv3.LeaseID) {
		t.Helper()
		if got := s.core.inUse(s.now); !slices.Equal(got, want) {
			t.Errorf("leases %v are renewed, want %v", got, want)
		}
	}
	inUse(1)
	s.core.keepAliveEnded(s.now, 1, errors.New("ended"))
	s.core.granted(s.now, s.now, 2, ttl)
	s.etcd.leases[2], s.etcd.ids = s.now.Add(ttl), 2
	inUse(1, 2) // until the key has moved
	s.settle()
	inUse(2)
}

func TestClose(t *testing.T) {
	s := newScript(t)
	s.core.close(s.now)
	if !s.core.finished() || s.core.leftover(nil) != nil {
		t.Error("not finished without a lease")
	}

	s = newScript(t)
	s.add("a")
	s.core.next(s.now)
	s.core.close(s.now) // while the grant is under way
	s.state("a", Closed)
	s.etcd.leases[1] = s.now.Add(ttl)
	s.core.granted(s.now, s.now, 1, ttl)
	if s.core.finished() {
		t.Error("finished with a lease")
	}
	s.settle()
	if !s.core.finished() || s.core.leftover(nil) != nil {
		t.Errorf("not finished: %v", s.core.leftover(nil))
	}

	s = newScript(t)
	s.have("a")
	s.core.close(s.now)
	s.core.end(s.now)
	s.state("a", Closed)
	if err := s.core.leftover(errors.New("late")); err == nil || err.Error() != "lease 1 was not revoked, it and its keys expire by themselves within 15s: late" {
		t.Errorf("leftover: %v", err)
	}

	s = newScript(t)
	s.have("a")
	s.etcd.poisoned[1], s.etcd.unwritable["a"] = true, true
	s.core.close(s.now)
	s.run(3 * time.Second)
	if err := s.core.leftover(nil); !s.core.finished() || err == nil || !strings.Contains(err.Error(), "denies") {
		t.Errorf("finished %v, leftover: %v", s.core.finished(), err)
	}
}

// G26: the first failure to register is reported, later ones rarely.
func TestG26_Complaints(t *testing.T) {
	for _, row := range []struct {
		rule string
		do   func(s *script)
		want []string // at once
		late int      // how many after ten minutes
	}{
		{"no answer", func(s *script) { s.etcd.down = true; s.add("a", "b", "c") }, []string{`a and 2 others: grant a lease: context deadline exceeded`}, 10},
		{"a refusal", func(s *script) { s.etcd.unwritable["a"] = true; s.add("a", "b") }, []string{`a and 0 others: key "a": etcdserver: permission denied`}, 10},
		{"refusals of many keys", func(s *script) {
			for _, key := range numbered(30) {
				s.etcd.unwritable[key] = true
				s.add(key)
			}
		}, []string{`k0000 and 0 others: key "k0000": etcdserver: permission denied`}, 10},
		{"a full etcd", func(s *script) { s.etcd.full = true; s.add("a") }, []string{"a and 0 others: grant a lease: etcdserver: mvcc: database space exceeded"}, 10},
		{"all is well", func(s *script) { s.add("a") }, nil, 0},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			row.do(s)
			s.run(4 * time.Second)
			var got []string
			for _, c := range s.core.complaints {
				got = append(got, fmt.Sprintf("%s and %d others: %v", c.key, c.others, c.err))
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("complaints: %q, want %q", got, row.want)
			}
			s.run(10 * time.Minute)
			if n := len(s.core.complaints) - len(got); n > row.late || n < row.late-2 {
				t.Errorf("%d complaints in ten minutes, want about %d", n, row.late)
			}
		})
	}
}

// Messages may be too large for either side: after a write the keys are read, in smaller batches.
func TestG22_MessageLimit(t *testing.T) {
	s := newScript(t)
	s.have("a", "b")
	tooLarge := status.Error(codes.ResourceExhausted, "grpc: received message larger than max (70000 vs. 65536)")
	s.update("a", "w")
	s.update("b", "w")
	o, _ := s.core.next(s.now)
	s.core.writeFailed(s.now, o.(writeOp).steps, tooLarge)
	o, _ = s.core.next(s.now)
	if got := describe(o); got != "read a b" {
		t.Fatalf("the call is %q, want a look at what came of it", got)
	}
	s.core.probeFailed(s.now, o.(probeOp).probes, tooLarge)
	s.settle()
	if want := []string{"read a", "read b", "grant", "put a", "put b", "revoke 1", "read a b"}; !slices.Equal(s.calls, want) {
		t.Errorf("the calls are %q, want %q", s.calls, want)
	}
	s.core.nudge(s.now)
	s.run(checkMin)
	o = probeOp{[]probe{{e: s.entries["a"], s: s.entries["a"].slots[0], compare: true}, {e: s.entries["b"], s: s.entries["b"].slots[0], compare: true}}}
	s.core.probeFailed(s.now, o.(probeOp).probes, tooLarge)
	s.calls = nil
	s.settle()
	if want := []string{"check a", "check b"}; !slices.Equal(s.calls, want) {
		t.Errorf("the calls are %q, want %q", s.calls, want)
	}
}

// What the calls are for etcd.
func TestOps(t *testing.T) {
	s := &slot{key: "a"}
	for _, row := range []struct {
		step  step
		guard clientv3.Cmp
		isPut bool
	}{
		{step{nil, s, write{put, "v", 7, 5}}, clientv3.Compare(clientv3.ModRevision("a"), "=", 5), true},
		{step{nil, s, write{mark, "v!", 7, 5}}, clientv3.Compare(clientv3.ModRevision("a"), "=", 5), true},
		{step{nil, s, write{remove, "", 7, 0}}, clientv3.Compare(clientv3.LeaseValue("a"), "=", 7), false},
	} {
		if got := row.step.guard(); !reflect.DeepEqual(got, row.guard) {
			t.Errorf("guard %+v, want %+v", got, row.guard)
		}
		op := row.step.op()
		if op.IsPut() != row.isPut || op.IsDelete() == row.isPut || string(op.KeyBytes()) != "a" || string(op.ValueBytes()) != row.step.value {
			t.Errorf("op %+v", op)
		}
	}
	l := probe{s: s, rev: 5}
	if got, want := l.cmp(), clientv3.Compare(clientv3.ModRevision("a"), "=", 5); !reflect.DeepEqual(got, want) {
		t.Errorf("comparison %+v, want %+v", got, want)
	}
}
