package listwatch

import (
	"fmt"
	"testing"
)

// opening says how turns go for watches of which a stream opens some between two ticks.
func opening(watches, each int) (ticks int, streams int) {
	var t turns
	for range watches {
		t.queue(&turn{})
	}
	for ; t.left() > 0; ticks++ {
		for range each {
			var open []*turn
			for w := t.give(); w != nil; w = t.give() {
				open = append(open, w)
			}
			for _, w := range open {
				t.opened(w.stream)
			}
		}
		if each == 0 { // they take longer than from one tick to the next
			for w := t.give(); w != nil; w = t.give() {
				defer t.opened(w.stream)
			}
		}
		if t.tick(); ticks == 1 && each == 0 {
			break
		}
	}
	return ticks, int(t.numbered)
}

func TestK13_StreamsAreAddedWhereWatchesWait(t *testing.T) {
	for _, tt := range []struct{ watches, each, ticks, streams int }{
		{1, 0, 1, 1},            // one needs no other
		{10, 0, 1, 10},          // far from etcd
		{400, 0, 1, maxStreams}, // ... there is a bound
		{400, 500, 1, 1},        // near etcd, one does
		{400, 100, 2, 3},        // ... or some
		{400, 1, 7, maxStreams}, // at 50 ms
	} {
		ticks, streams := opening(tt.watches, tt.each)
		if ticks > tt.ticks || streams != tt.streams {
			t.Errorf("%d watches, %d of a stream at a time: %d streams, %d ticks; want %d, and %d at the most",
				tt.watches, tt.each, streams, ticks, tt.streams, tt.ticks)
		}
	}
}

func TestTurns(t *testing.T) {
	var ts turns
	first, second, third := &turn{last: true}, &turn{last: true}, &turn{}
	for _, w := range []*turn{first, second, third} {
		ts.queue(w)
		if w == first && ts.give() != first {
			t.Fatal("the first has to wait")
		}
	}
	if w := ts.give(); w != nil {
		t.Fatalf("%v has its turn while another is opened on the only stream", w)
	}
	ts.opened(first.stream)
	if w := ts.give(); w != third || w.stream != first.stream {
		t.Errorf("%v is next, want the one that must not wait, on the same stream", w)
	}
	ts.retire(third.stream)
	if w := ts.give(); w != second || w.stream == first.stream {
		t.Errorf("%v is next, want the other on another stream", w)
	}
	ts.closed(first.stream)
	ts.opened(third.stream)
	if len(ts.unused) != 0 {
		t.Error("a stream is unused that has a watch")
	}
	if ts.closed(third.stream); len(ts.unused) != 1 || len(ts.retired) != 0 {
		t.Error("a retired stream without a watch is not unused")
	}
	fourth := &turn{}
	ts.queue(fourth)
	ts.forget(fourth)
	ts.opened(second.stream)
	if w := ts.give(); w != nil || ts.left() != 0 {
		t.Errorf("%v has its turn, though it waits no longer", w)
	}
}

// A stream is not used again at once after a failure, however it was left.
func TestAFailureLeadsToAnotherStream(t *testing.T) {
	var ts turns
	used := map[string]bool{}
	var last *stream
	for i := range 4 * spareStreams {
		w := &turn{}
		ts.queue(w)
		if ts.give() != w || w.stream == last {
			t.Fatalf("attempt %d is on the stream of the last one", i)
		}
		last = w.stream
		used[fmt.Sprint(last.number)] = true
		ts.retire(last)
		ts.opened(last)
		ts.closed(last)
	}
	if len(used) != spareStreams {
		t.Errorf("%d streams were used, want %d", len(used), spareStreams)
	}
}

func TestStreamsWithAWatchAreNotUsedAgain(t *testing.T) {
	var ts turns
	open := func() *stream {
		w := &turn{}
		ts.queue(w)
		ts.give()
		ts.opened(w.stream)
		ts.retire(w.stream)
		return w.stream
	}
	first := open()
	for range 10 {
		on := open()
		if on == first {
			t.Fatal("a stream is used again that has a watch")
		}
		ts.closed(on)
	}
	ts.closed(first)
	used := map[*stream]bool{}
	for range 2 * spareStreams {
		on := open()
		used[on] = true
		ts.closed(on)
	}
	if !used[first] {
		t.Errorf("%d streams are used, and not the one that has no watch any more", len(used))
	}
}
