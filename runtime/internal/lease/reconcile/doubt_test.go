package reconcile

import "testing"

// A later unanswered put does not replace the doubt of an unanswered deletion that may arrive late.
func TestDoubt_HighestGuardCounts(t *testing.T) {
	w := startRegistered(t, 2, item)
	w.setDesired(0, paused)
	w.end(lost)    // the mark
	w.end(delayed) // the deletion
	w.setDesired(0, present)
	w.end(lost) // the put
	for ok := false; !ok; ok, _ = w.core.Synced(w.entries[0]) {
		w.end(answered)
	}
	w.arriveLate()
	if kv := w.etcd.get("a"); kv == nil {
		t.Error("the late deletion was applied, want it refused by its guard after the put")
	}
}
