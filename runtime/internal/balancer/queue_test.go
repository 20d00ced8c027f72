package balancer

import (
	"strings"
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	var q queue
	started := make(chan struct{}, 10)
	q.start = func() { started <- struct{}{} }
	var done strings.Builder
	note := func(what string) func() { return func() { done.WriteString(what) } }
	want := func(what, events string) {
		t.Helper()
		if done.String() != events {
			t.Errorf("%s: %q were handled, want %q", what, done.String(), events)
		}
		done.Reset()
	}
	q.put(note("a"))
	<-started
	q.put(note("b"))
	q.putFirst(note("!"))
	q.put(func() { q.put(note("d")); note("c")() })
	q.drain()
	want("in order, what is urgent first", "!abcd")
	q.claim()
	q.put(note("a"))
	q.drain()
	want("claimed", "a")
	select {
	case <-started:
		t.Error("a goroutine was started where one drains already")
	default:
	}
	q.claim()
	q.put(func() { time.Sleep(slice); q.putFirst(note("!")); note("slow")() })
	q.put(note("later"))
	q.drain()
	want("for a slice of time", "slow!")
	<-started
	q.drain()
	want("by another", "later")
	q.put(note("x"))
	<-started
}
