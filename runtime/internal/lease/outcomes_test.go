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

// A denial is taken for the lease's fault ever more rarely, also where the key is another one on each lease (S3).
func TestADeniedKeyOfTheLeaseMovesTheOthersRarely(t *testing.T) {
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
	if n := len(s.core.warnings); n > int(d/warnEvery)+1 {
		t.Errorf("%d warnings in %v", n, d)
	}
}
