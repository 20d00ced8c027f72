package listwatch

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestStream_OpensOneWatchAtATime follows more ranges than there are streams, in two groups of a
// client: the last watch waits until an earlier watch is open, and its timeout begins then.
func TestStream_OpensOneWatchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := &fakeEtcd{}, &bytes.Buffer{}
		one := list(10, kv("a", "1", 5))
		one.Count = 1
		f.answering(one, nil)
		f.opening = watchTimeout - time.Second
		streams := NewStreams()
		streams.used.Store(streamSlots)
		for range 2 {
			g := newGroup(f, &hooks{}, log)
			g.cfg.Streams = streams
			defer g.Close()
			for range streamSlots/2 + 1 {
				defer g.Follow(testSpec(), func(Update[string]) {})()
			}
		}
		for _, want := range []int{streamSlots, streamSlots + 2} {
			synctest.Wait()
			f.mu.Lock()
			if n := len(f.watches); n != want {
				t.Errorf("%d watches were opened, want %d", n, want)
			}
			f.mu.Unlock()
			time.Sleep(f.opening + slowAfter)
		}
		if log.Len() > 0 {
			t.Errorf("the log has these lines, want none: %s", log)
		}
	})
}

// TestStreams_GrowWhileWatchesWait opens watches that take long. More streams are used only if the connection has room for them, and for
// some more.
func TestStreams_GrowWhileWatchesWait(t *testing.T) {
	for _, tt := range []struct{ room, want, asked int }{ // how many streams the connection allows in all
		{3, 1, 1},
		{4 + 4 + spareStreams - 1, 4, 3},
		{4 + 4 + spareStreams, 8, 4},
		{100, streamSlots, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, asked := NewStreams(), 0
			s.room = func(_ context.Context, n int) bool { asked++; return int(s.used.Load())+n <= tt.room }
			var opened atomic.Int64
			for range 2 * streamSlots {
				go func() {
					if s.open(ctx, nil) != nil {
						opened.Add(1)
					}
				}()
			}
			synctest.Wait()
			if n := opened.Load(); n != 1 {
				t.Errorf("%d streams at first, want 1", n)
			}
			time.Sleep(roomAgain)
			synctest.Wait()
			if n := int(opened.Load()); n != tt.want || asked != tt.asked {
				t.Errorf("a connection of %d streams: %d are used after %d attempts, want %d after %d", tt.room, n, asked, tt.want, tt.asked)
			}
			cancel()
		})
	}
}

// TestStream_ClosesWatchAfterOpening stops following a range while its watch is being opened. The etcd
// client would keep the stream of a watch that is closed before it is open.
func TestStream_ClosesWatchAfterOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.opening = time.Second
		g := newGroup(f, &hooks{}, &bytes.Buffer{})
		defer g.Close()
		stop := g.Follow(testSpec(), func(Update[string]) {})
		synctest.Wait()
		stop()
		time.Sleep(time.Second)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.opened) != 1 || f.early > 0 || f.opened[0].Err() == nil {
			t.Errorf("%d watches were opened, %d closed too early, want 1 and 0, and the watch closed by now", len(f.opened), f.early)
		}
		if g.cfg.Streams.open(t.Context(), nil) == nil { // there is one slot in use
			t.Error("the stream is still taken")
		}
	})
}

// TestStreams_ReusesFewStreams checks that a slot uses another stream after each failure, few streams in all (D7, G30).
func TestStreams_ReusesFewStreams(t *testing.T) {
	s, other := NewStreams(), NewStreams()
	s.used.Store(streamSlots)
	used := make(map[string]bool)
	for range 3 * streamSlots * streamVersions {
		on := s.open(t.Context(), nil)
		if n := len(used); used[on.name] && n < streamSlots*streamVersions {
			t.Errorf("stream %s is used again after %d streams, want %d streams before", on.name, n, streamSlots*streamVersions)
		}
		used[on.name] = true
		on.opened()
		on.retire()
		on.retire() // a second failed watch on the same stream changes nothing
	}
	if n := len(used); n != streamSlots*streamVersions {
		t.Errorf("%d streams are used, want %d", n, streamSlots*streamVersions)
	}
	// Another registry of the client has streams of its own.
	if on := other.open(t.Context(), nil); used[on.name] {
		t.Errorf("another registry uses stream %s, want a stream that the first registry does not use", on.name)
	}
}
