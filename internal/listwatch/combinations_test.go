package listwatch

import "testing"

// TestK3_AMarkHeardBeforeAListIsTold has a list, not an event, show that an entry is gone whose mark
// came just before, and was not published yet: what the entry said last is told all the same.
func TestK3_AMarkHeardBeforeAListIsTold(t *testing.T) {
	r, _ := newReplica()
	r.listed(whole(r, list(10, kv("a", "serving", 10), kv("b", "serving", 10))), false)
	r.snapshot()
	r.watching(start)
	if _, err := r.heard(events(11, put("a", "leaving", 11)), start); err != nil {
		t.Fatal(err)
	}
	if _, err := r.verified(whole(r, list(12, kv("b", "serving", 10))), start); err != nil {
		t.Fatal(err)
	}
	if got := text(r.snapshot().Removed); got != "a=leaving" {
		t.Errorf("removed: %q", got)
	}
}
