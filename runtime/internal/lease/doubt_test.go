package lease

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// TestDoubt_WritesOneKey ends a write of key a in every way, and applies a delayed write at various times. Key b is not written, and the
// lease stays.
func TestDoubt_WritesOneKey(t *testing.T) {
	changes := map[string]func(w *walked){
		"update": func(w *walked) { w.update(0) },
		"pause":  func(w *walked) { w.setDesired(0, paused) },
		"drop":   func(w *walked) { w.setDesired(0, gone) },
		"add": func(w *walked) {
			w.setDesired(0, gone)
			for w.entries[0].state != Closed {
				w.end(answered)
			}
			w.add(0)
		},
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		for _, f := range []fate{lost, unanswered, delayed} {
			for late := range 4 { // the number of calls after which the delayed write arrives
				t.Run(fmt.Sprint(name, f, late), func(t *testing.T) {
					w := startRegistered(t, 2, item)
					held, rev := w.core.lease, w.etcd.get("b").rev
					changes[name](w)
					w.end(f)
					for i := range 60 {
						if i == late {
							w.arriveLate()
						}
						w.end(answered)
					}
					w.pass(time.Minute)
					if why := w.wrong(); why != "" {
						t.Error(why)
					}
					if w.core.lease != held || w.etcd.get("b").rev != rev {
						t.Errorf("the lease is %d, want %d; key b has revision %d, want %d", w.core.lease, held, w.etcd.get("b").rev, rev)
					}
				})
			}
		}
	}
}

// A later unanswered put does not replace the doubt of an unanswered deletion that may arrive late.
func TestDoubt_HighestGuardCounts(t *testing.T) {
	w := startRegistered(t, 2, item)
	w.setDesired(0, paused)
	w.end(lost)    // the mark
	w.end(delayed) // the deletion
	w.setDesired(0, present)
	w.end(lost) // the put
	for ok := false; !ok; ok, _ = w.core.synced(w.entries[0]) {
		w.end(answered)
	}
	w.arriveLate()
	if kv := w.etcd.get("a"); kv == nil {
		t.Error("the late deletion was applied, want it refused by its guard after the put")
	}
}
