package lease

import (
	"fmt"
	"testing"
	"time"
)

// numbered returns n keys.
func numbered(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%04d", i)
	}
	return keys
}

// Close revokes the lease within CloseTimeout, however slowly etcd answers the marks.
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

// After a denial the entries move to another lease with backoff, even if each lease has another key (S3).
func TestADeniedKeyMovesTheOthersRarely(t *testing.T) {
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
		t.Errorf("%d leases in %v, for 5 registered entries and a denied one", n, d)
	}
	if n := len(s.core.warnings); n > int(d/warnEvery)+1 {
		t.Errorf("%d warnings in %v", n, d)
	}
}
