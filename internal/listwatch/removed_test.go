package listwatch

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// TestK3_RemovedEntriesAreToldAsTheyWereLast has changes and the deletion that follows them reach a
// user as one snapshot: the last value is told all the same.
func TestK3_RemovedEntriesAreToldAsTheyWereLast(t *testing.T) {
	s := newSet(&[]string{})
	for _, k := range []string{"a", "b", "c"} {
		s.put(kv(k, "1", 1))
	}
	s.commit()
	s.put(kv("a", "2", 2))
	s.remove("a")
	s.remove("b")
	s.remove("b")
	s.put(kv("d", "1", 3))
	s.remove("d")
	if got := text(s.takeRemoved()); got != "a=2 b=1 d=1" {
		t.Errorf("removed: %q", got)
	}
	if got := text(s.takeRemoved()); got != "" {
		t.Errorf("removed, the second time: %q", got)
	}
	for _, late := range []*mvccpb.KeyValue{kv("a", "2", 2), kv("c", "0", 1)} { // a list was faster
		if told := s.overtaken(late); told != (string(late.Key) == "a") {
			t.Errorf("%s, told late, counts: %v", late.Key, told)
		}
	}
	if got := text(s.takeRemoved()); got != "a=2" {
		t.Errorf("removed, told late: %q", got)
	}
	if got := text(s.commit()); got != "c=1" {
		t.Errorf("left: %q", got)
	}
}
