package descriptors

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

// walked is a core with what its effects have led to. Its lists point into themselves, so it is copied by doing
// all again.
type walked struct {
	*script
	limit  int
	spent  bool // the attempts to reach what has failed are used up at first
	done   []string
	wake   bool // effects.wake is set
	broken string
}

func startWalk(limit int, spent bool) *walked {
	w := &walked{script: newScript(limit), limit: limit, spent: spent}
	if spent {
		w.core.pace.full = w.now.Add(burst * every)
	}
	return w
}

func (w *walked) copy() *walked {
	c := startWalk(w.limit, w.spent)
	for _, event := range w.done {
		c.do(event)
	}
	return c
}

// do hands the core an event, "want a1".
func (w *walked) do(event string) {
	w.done = append(w.done, event)
	verb, name, _ := strings.Cut(event, " ")
	before := make(map[string]state)
	for n, p := range w.places {
		before[n] = p.state
	}
	if verb == "want" || verb == "call" {
		w.event("join", name) // who asks uses it
	}
	said := w.event(verb, name)
	w.wake = strings.Contains(said, "wake")
	for effect := range strings.SplitSeq(said, ", ") {
		verb, name, _ := strings.Cut(effect, " ")
		if p := w.places[name]; verb == "dial" && p.state != dialing || verb == "refuse" && p.state != waiting || verb == "reclaim" && !p.unused {
			w.breaks("effects are of what they are: %s", effect)
		}
	}
	for n, p := range w.places {
		if (before[n] == dialing || before[n] == open) && !p.state.holds() && n != name {
			w.breaks("nobody loses a connection that is in use: %s did", n)
		}
	}
	if verb == "release" {
		delete(w.places, name) // the next of that name is another SubConn
	}
	if problem := w.check(); problem != "" {
		w.breaks("%s", problem)
	}
}

func (w *walked) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// settle has whoever holds a place give it back, until nobody waits. What nobody uses is given back on demand alone.
func (w *walked) settle() string {
	if w.core.waiting == 0 {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(w.places)) {
		if p := w.places[name]; p.state.holds() && (!p.unused || p.asked) {
			w.do("release " + name)
			return "release " + name
		}
	}
	if !w.wake {
		return "nothing happens"
	}
	w.do("after 1s")
	return "time passes"
}

func descriptorsWalk(limit int, spent bool, places ...string) coretest.World[walked] {
	shape := &coretest.Shape{
		Counted: map[string]string{"core.arrivals": "arrival", "place.arrival": "arrival"},
		Ignored: []string{"script.now", "walked.done", "walked.broken"},
		Old:     2 * grace,
	}
	w := coretest.World[walked]{
		Start:  func() *walked { return startWalk(limit, spent) },
		Copy:   (*walked).copy,
		Key:    func(w *walked) string { return coretest.Key(shape, w, w.now) },
		Rules:  []coretest.Rule[walked]{{Name: "always", Broken: func(_, w *walked) string { return w.broken }}},
		Settle: (*walked).settle, Within: 20,
	}
	event := func(event string) {
		w.Events = append(w.Events, coretest.Event[walked]{Name: event, Do: func(w *walked) bool { w.do(event); return true }})
	}
	for _, place := range places {
		for _, verb := range []string{"want", "call", "open", "fail", "end", "leave", "join", "release"} {
			event(verb + " " + place)
		}
	}
	event("after 100ms")
	event("after 1s")
	return w
}

func TestS4_Walk(t *testing.T) {
	t.Run("one place", func(t *testing.T) { coretest.Walk(t, 4, descriptorsWalk(1, false, "a1", "a2", "b1")) })
	t.Run("two places, and a name that may take both", func(t *testing.T) {
		coretest.Walk(t, 4, descriptorsWalk(2, false, "a1", "a2n", "b1"))
	})
	t.Run("what has failed waits for its turn", func(t *testing.T) { coretest.Walk(t, 4, descriptorsWalk(2, true, "a1", "a2", "b1")) })
}
