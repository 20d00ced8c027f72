package lease

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// numbered returns n keys.
func numbered(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%04d", i)
	}
	return keys
}

// named returns the items of an entry of one key, which is named by its lease.
func named(prefix, value string) []Item {
	return []Item{{Key: func(id clientv3.LeaseID) string { return fmt.Sprintf("%s/%d", prefix, id) }, Value: value}}
}

// puts counts the transactions that put keys.
func (s *script) puts() (n int) {
	for _, call := range s.calls {
		if strings.HasPrefix(call, "put ") {
			n++
		}
	}
	return n
}

// etcd says that it has too many requests: it gets few more, and every key once it has time.
func TestTooManyRequests(t *testing.T) {
	s := newScript(t)
	keys := numbered(200)
	s.add(keys...)
	s.etcd.busy = true
	s.run(time.Second)
	if n := s.puts(); n > 20 {
		t.Errorf("%d requests in the second in which etcd had too many", n)
	}
	s.etcd.busy = false
	s.run(3 * time.Second)
	for _, key := range keys {
		s.state(key, Registered)
	}
	if n := len(s.core.complaints); n != 1 {
		t.Errorf("%d complaints, want 1", n)
	}
}

// A lease that is left keeps the keys that cannot be moved, and the status names it.
func TestStatusNamesTheLeaseOfTheKey(t *testing.T) {
	s := newScript(t)
	s.have("a", "b")
	s.etcd.unwritable["a"] = true
	s.core.keepAliveEnded(s.now, 1, rpctypes.ErrTimeout)
	s.run(5 * time.Second)
	for key, lease := range map[string]clientv3.LeaseID{"a": 1, "b": s.core.lease} {
		h := &Handle{s: &Session{core: s.core}, e: s.entries[key]}
		kv := s.etcd.get(key)
		if kv == nil || kv.lease != lease {
			t.Fatalf("etcd has %s as %+v, want it on lease %d", key, kv, lease)
		}
		if st := h.Status(); st.Lease != lease {
			t.Errorf("the status of %s is %s on lease %d (%v), want lease %d", key, st.State, st.Lease, st.Err, lease)
		}
	}
}

// To close many entries moves none of the others.
func TestClosedEntriesLeaveTheOthers(t *testing.T) {
	s := newScript(t)
	keys := numbered(1000)
	s.have(keys...)
	for _, key := range keys[:500] {
		s.want(key, gone)
		s.settle()
	}
	if n := s.puts(); n > 0 {
		t.Errorf("to close 500 of 1,000 entries took %d transactions that put the others", n)
	}
}

// Close revokes the lease in its time, however slowly etcd answers the marks.
func TestMarksLeaveTimeForTheRevocation(t *testing.T) {
	s := newScript(t)
	s.have(numbered(500)...)
	s.fail = func() fate { return 2 }
	s.core.close(s.now)
	s.run(CloseTimeout)
	if !s.core.finished() || len(s.etcd.kvs)+len(s.etcd.leases) > 0 {
		t.Errorf("%v after Close: %d keys and leases %v are left; the calls were %q", CloseTimeout, len(s.etcd.kvs), s.etcd.leases, s.calls)
	}
}

// A denial is taken for the lease's fault ever more rarely, also where the key is another one on each lease.
func TestS3_ADeniedKeyOfTheLeaseMovesTheOthersRarely(t *testing.T) {
	s := newScript(t)
	s.have(numbered(5)...)
	for id := range 1000 {
		s.etcd.unwritable[fmt.Sprintf("zero/%d", id)] = true
	}
	s.items("zero", named("zero", "v"))
	leases := s.etcd.ids
	const d = 2 * time.Hour
	s.run(d)
	if n := s.etcd.ids - leases; n > 15 {
		t.Errorf("%d leases in %v, for 5 entries that are well and one that is denied", n, d)
	}
	if n := len(s.core.complaints); n > int(d/complainEvery)+1 {
		t.Errorf("%d complaints in %v", n, d)
	}
}

// The refusal of a value does not count for the one that has replaced it meanwhile.
func TestG13_RefusedAfterTheNextUpdate(t *testing.T) {
	s := newScript(t)
	s.have("a")
	e := s.entries["a"]
	s.update("a", "too large")
	o, _ := s.core.next(s.now)
	s.update("a", "small")
	e.retry()
	s.core.refresh(s.now)
	s.core.writeFailed(s.now, o.(writeOp).steps, rpctypes.ErrRequestTooLarge)
	if _, err := e.synced(); err != nil {
		t.Errorf("the later update has failed with %v", err)
	}
	s.settle()
	if kv := s.etcd.get("a"); kv == nil || kv.value != "small" {
		t.Errorf("etcd has %+v, want the later update", kv)
	}
}

// A key that someone overwrites again and again is put back at once, after a second, and then every 2 s.
func TestG18_OverwrittenAgainAndAgain(t *testing.T) {
	s := newScript(t)
	s.have("a")
	s.run(2 * calm)
	var after []time.Duration
	for range 5 {
		s.etcd.put("a", "x", 1)
		start := s.now
		for s.etcd.get("a").value != "v" {
			s.core.nudge(s.now)
			s.run(10 * time.Millisecond)
		}
		after = append(after, s.now.Sub(start))
	}
	for i, want := range []time.Duration{0, restoreMin, restoreMax, restoreMax, restoreMax} {
		if late := after[i] - want; late < -50*time.Millisecond || late > checkMin+50*time.Millisecond {
			t.Errorf("put back after %v, want 0, %v, and then %v each", after, restoreMin, restoreMax)
			break
		}
	}
}

// A refusal is logged though etcd was slow just before: the first line would name a cause that has passed.
func TestRefusalsAreNotHidden(t *testing.T) {
	now := time.Now()
	c := newCore(15, func(d time.Duration) time.Duration { return d })
	c.add(now, named("a", "v"), false)
	for range 3 {
		c.complain(now, errors.New("etcd has not answered"), unregistered)
		c.complain(now, rpctypes.ErrPermissionDenied, unregistered)
	}
	if n := len(c.complaints); n != 2 || !isDenied(c.complaints[1].err) {
		t.Errorf("%d complaints, want one about the answer that did not come, then one about the permission: %v", n, c.complaints)
	}
}

// TestChecks spaces the checks by who else tells of changes.
func TestChecks(t *testing.T) {
	for name, row := range map[string]struct {
		lease           clientv3.LeaseID
		watched, hidden bool
		want            time.Duration
	}{
		"no lease":                                 {0, true, false, checkIdle},
		"nothing is heard":                         {1, false, false, checkUnwatched},
		"watches tell":                             {1, true, false, checkWatched},
		"watches tell, and nobody of a new etcd":   {1, true, true, checkHidden},
		"nothing is heard, and of no new etcd too": {1, false, true, checkUnwatched},
	} {
		c, now := newCore(15, func(d time.Duration) time.Duration { return d }), time.Now()
		c.lease, c.watched, c.hidden = row.lease, row.watched, row.hidden
		if c.scheduleCheck(now); c.checkAt.Sub(now) != row.want {
			t.Errorf("%s: checked after %v, want %v", name, c.checkAt.Sub(now), row.want)
		}
	}
}
