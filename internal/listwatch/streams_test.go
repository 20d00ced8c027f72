package listwatch

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"
)

// TestStream_OpensOneWatchAtATime follows two ranges, in two groups of a
// client: the second watch waits until the first is open, and its timeout
// begins then.
func TestStream_OpensOneWatchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		log := &bytes.Buffer{}
		one := list(10, kv("a", "1", 5))
		one.Count = 1
		f.answering(one, nil)
		f.opening = maxTimeout - time.Second

		conversation := NewConversation(f)
		for range 2 {
			g := newGroup(f, &hooks{}, log)
			g.cfg.Conversation = conversation

			defer g.Close()
			defer g.Follow(testRange, decodeText, func(Update[string]) {})()
		}

		for _, want := range []int{1, 2} {
			synctest.Wait()

			if n := f.counts()[1]; n != want {
				t.Errorf("%d watches were opened, want %d", n, want)
			}

			time.Sleep(f.opening + time.Millisecond)
		}

		if log.Len() > 0 {
			t.Errorf("the log has these lines, want none: %s", log)
		}
	})
}

// TestStream_ClosesWatchAfterOpening stops following a range while its watch is
// being opened. The etcd client would keep the stream of a watch that is closed
// before it is open.
func TestStream_ClosesWatchAfterOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.opening = time.Second
		g := newGroup(f, &hooks{}, &bytes.Buffer{})
		defer g.Close()

		stop := g.Follow(testRange, decodeText, func(Update[string]) {})
		synctest.Wait()
		stop()
		time.Sleep(time.Second)
		synctest.Wait()

		f.mu.Lock()
		defer f.mu.Unlock()

		if len(f.opened) != 1 || f.early > 0 || f.opened[0].Err() == nil {
			t.Errorf("%d watches were opened, %d closed too early, "+
				"want 1 and 0, and the watch closed by now", len(f.opened), f.early)
		}

		g.cfg.Conversation.streams.open(t.Context()) // hangs if the stream is still taken
	})
}

// TestStreams_ReusesFewStreams checks that watches use another stream after
// each failure, unless the stream is young. In all, they use few streams (D7,
// G30).
func TestStreams_ReusesFewStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := func(s *streams) string {
			on := s.open(t.Context())
			<-s.opening
			on.retire()
			on.retire() // a second failed watch on the same stream changes nothing
			md, _ := metadata.FromOutgoingContext(on.context(t.Context()))

			return md.Get(streamKey)[0]
		}

		s := newStreams()
		used := make(map[string]int)
		for range 3 * 2 * streamNames {
			used[name(s)]++
			time.Sleep(steadyAfter/2 + time.Millisecond)
		}

		if n := len(used); n != streamNames || used[name(s)] > 6 {
			t.Errorf("%d streams are used, so often: %v, want %d", n, used, streamNames)
		}

		// Another registry of the client has streams of its own.
		if other := name(newStreams()); used[other] > 0 {
			t.Errorf("another registry uses stream %s, "+
				"want a stream that the first registry does not use", other)
		}
	})
}
