package listwatch

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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

// A stream may be retired while a watch is about to follow it. It is not used twice for that: a failure leads to another one.
func TestAStreamRetiredBeforeItIsFollowed(t *testing.T) {
	s := NewStreams()
	stream, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.retire(stream)
	stop := s.follow(stream, &follower{})
	s.opened()
	stop()
	for range 3 * spareStreams {
		before := s.current
		if s.retire(before); s.current == before {
			t.Fatalf("stream %d is used again at once; unused are %d", before, s.unused)
		}
	}
}

func TestStreamsTellTheirWatches(t *testing.T) {
	s := NewStreams()
	var lost [3]int
	follow := func(i int, stream uint64) (stop func()) {
		return s.follow(stream, &follower{first: int64(10 * i), lost: func() { lost[i]++ }})
	}
	first, second, third := follow(0, 7), follow(1, 7), follow(2, 8)
	if s.lost(7); lost != [3]int{1, 1, 0} {
		t.Errorf("a stream is lost: told %v", lost)
	}
	if latest := [3]int64{s.latest(7), s.latest(8), s.latest(9)}; latest != [3]int64{10, 20, 0} {
		t.Errorf("the latest watches of the streams began at %v", latest)
	}
	first()
	s.lost(7)
	if s.lost(9); lost != [3]int{1, 2, 0} {
		t.Errorf("after a watch was closed: told %v", lost)
	}
	second()
	third()
	if len(s.followers) != 0 {
		t.Errorf("%d streams are remembered that have no watch", len(s.followers))
	}
}

func TestARangeReadsWhereEtcdIsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		var reads atomic.Int64
		read := func() (*etcdserverpb.ResponseHeader, error) {
			time.Sleep(100 * time.Millisecond)
			return header(1, 1, int(reads.Add(1))), nil
		}
		began := time.Now()
		for range 10 {
			go func() {
				if h, err := s.head(t.Context(), 500*time.Millisecond, read); err != nil || h.header.Revision != 1 || !h.at.Equal(began) {
					t.Errorf("%v as of %v later, %v", h.header, h.at.Sub(began), err)
				}
			}()
		}
		time.Sleep(50 * time.Millisecond)
		impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.head(impatient, 500*time.Millisecond, read); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while another reads: %v, want the context's error", err)
		}
		time.Sleep(time.Second)
		away := errors.New("away")
		if _, err := s.head(t.Context(), 500*time.Millisecond, func() (*etcdserverpb.ResponseHeader, error) { return nil, away }); !errors.Is(err, away) {
			t.Errorf("etcd is away: %v", err)
		}
		if h, err := s.head(t.Context(), 500*time.Millisecond, read); err != nil || h.header.Revision != 2 {
			t.Errorf("after a second: %v, %v", h.header, err)
		}
	})
}
