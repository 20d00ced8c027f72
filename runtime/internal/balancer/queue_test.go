package balancer

import (
	"strings"
	"testing"
)

func TestQueue(t *testing.T) {
	started := 0
	q := &queue{start: func() { started++ }}
	var done strings.Builder
	note := func(what string) func() { return func() { done.WriteString(what) } }
	take := func(events string, starts int) {
		t.Helper()
		for _, event := range q.all() {
			event()
		}
		if done.String() != events || started != starts {
			t.Errorf("%q were handled after %d starts, want %q and %d", done.String(), started, events, starts)
		}
		done.Reset()
	}
	q.put(note("a"))
	q.put(func() { q.put(note("c")); note("b")() })
	take("ab", 1)
	take("c", 1) // the handler of the others calls all again
	take("", 1)
	q.put(note("d"))
	take("d", 2)
}
