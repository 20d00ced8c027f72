package lease

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// TestOnlyTheKeyInDoubtIsWritten ends one key's write in every way, and lets it arrive late in every way. The other
// entry is not written, and the lease stays.
func TestOnlyTheKeyInDoubtIsWritten(t *testing.T) {
	dos := map[string]func(w *walked){
		"update": func(w *walked) { w.update(0) },
		"pause":  func(w *walked) { w.setWant(0, paused) },
		"drop":   func(w *walked) { w.setWant(0, gone) },
		"add": func(w *walked) {
			w.setWant(0, gone)
			for w.entries[0].state != Closed {
				w.end(answered)
			}
			w.add(0)
		},
	}
	for _, name := range slices.Sorted(maps.Keys(dos)) {
		for _, f := range []fate{lost, unanswered, delayed} {
			for late := range 4 { // after how many calls the delayed one arrives
				t.Run(fmt.Sprint(name, f, late), func(t *testing.T) {
					w := startRegistered(t, 2, item)
					held, rev := w.core.lease, w.etcd.get("b").rev
					dos[name](w)
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
						t.Errorf("lease %d in place of %d, b at %d in place of %d", w.core.lease, held, w.etcd.get("b").rev, rev)
					}
				})
			}
		}
	}
}

// A later unanswered put does not replace the doubt of an unanswered deletion that may arrive late.
func TestTheGreatestGuardCounts(t *testing.T) {
	w := startRegistered(t, 2, item)
	w.setWant(0, paused)
	w.end(lost)    // the mark
	w.end(delayed) // the deletion
	w.setWant(0, present)
	w.end(lost) // the put
	for ok := false; !ok; ok, _ = w.core.synced(w.entries[0]) {
		w.end(answered)
	}
	w.arriveLate()
	if kv := w.etcd.get("a"); kv == nil {
		t.Error("the deletion was applied after the put that should fence it")
	}
}
