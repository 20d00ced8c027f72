package lease

import (
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
	s.core.move(s.now, rpctypes.ErrTimeout)
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
	if _, err := s.core.synced(e); err != nil {
		t.Errorf("the later update has failed with %v", err)
	}
	s.settle()
	if kv := s.etcd.get("a"); kv == nil || kv.value != "small" {
		t.Errorf("etcd has %+v, want the later update", kv)
	}
}
