package listwatch

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneWatchIsOpenedAtATime has two groups of a client share its streams: while etcd has not answered the watch of one,
// the other waits for its turn, and opens its own on the next stream once the first is given up.
func TestOneWatchIsOpenedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.answers = nil // lists are answered, and watches hang
		streams := NewStreams()
		for range 2 {
			g := newGroup(f, &hooks{}, &bytes.Buffer{})
			g.cfg.Streams = streams
			defer g.Close()
			defer g.Follow(testSpec(), func(Update[string]) {})()
		}
		opened := func() []string {
			f.mu.Lock()
			defer f.mu.Unlock()
			return slices.Clone(f.watches)
		}
		time.Sleep(watchBound - time.Second)
		if watches := opened(); len(watches) != 1 {
			t.Errorf("watches on the streams %v are being opened at the same time", watches)
		}
		time.Sleep(watchBound)
		if watches := opened(); len(watches) < 2 || watches[0] == watches[1] {
			t.Errorf("watches were opened on the streams %v, want the second on another", watches)
		}
	})
}

func TestTheTurnToOpenAWatchIsBounded(t *testing.T) {
	s := NewStreams()
	if stream, err := s.open(t.Context()); stream != 0 || err != nil {
		t.Fatalf("the first: %d, %v", stream, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("while another opens: %v, want the context's error", err)
	}
	s.retire(0)
	s.opened()
	if stream, err := s.open(t.Context()); stream != 1 || err != nil {
		t.Errorf("after a failure: stream %d, %v, want 1", stream, err)
	}
}
