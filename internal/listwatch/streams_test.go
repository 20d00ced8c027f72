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

// TestOneWatchIsOpenedAtATime has two groups of a client share its streams: on each, one watch is opened at a time.
func TestOneWatchIsOpenedAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeEtcd{}
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.answers = nil // lists are answered, and watches hang
		streams := NewStreams()
		defer time.Sleep(watchBound) // what is being opened at the end
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
		if synctest.Wait(); len(opened()) != 1 {
			t.Errorf("watches on the streams %v are being opened at the same time", opened())
		}
		time.Sleep(turnPatience)
		if synctest.Wait(); len(opened()) != 2 || opened()[0] == opened()[1] {
			t.Errorf("watches were opened on the streams %v, want the second on another", opened())
		}
		time.Sleep(watchBound + time.Second)
		if w := opened(); len(w) != 4 || slices.Contains(w[2:], w[0]) || slices.Contains(w[2:], w[1]) {
			t.Errorf("watches were opened on the streams %v, want others after the failures", w)
		}
	})
}

// TestAWatchIsClosedOnceItIsOpen ends what follows a range while its watch is being opened. The etcd client would keep the
// stream of a watch that is closed by then.
func TestAWatchIsClosedOnceItIsOpen(t *testing.T) {
	for name, end := range map[string]func(g *Group[string], stop func()){
		"the range is not followed any more": func(_ *Group[string], stop func()) { stop() },
		"the group is closed":                func(g *Group[string], _ func()) { g.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeEtcd{}
				f.answering(list(10, kv("a", "1", 5)), nil)
				f.opening = time.Second
				g := newGroup(f, &hooks{}, &bytes.Buffer{})
				g.cfg.Streams = NewStreams()
				defer g.Close()
				stop := g.Follow(testSpec(), func(Update[string]) {})
				synctest.Wait()
				end(g, stop)
				time.Sleep(time.Second)
				synctest.Wait()
				f.mu.Lock()
				defer f.mu.Unlock()
				if len(f.opened) != 1 || f.early > 0 || f.opened[0].Err() == nil {
					t.Errorf("%d watches were opened, and %d closed before; want one, and it closed", len(f.opened), f.early)
				}
				if len(g.cfg.Streams.followers) != 0 || g.cfg.Streams.turns.live[0].opening {
					t.Error("the turn is not given back, or the watch still follows its stream")
				}
			})
		})
	}
}

// TestABoundWaitsForTheTurn has more watches wait than can be opened while a watch may take.
func TestABoundWaitsForTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := &fakeEtcd{}, &bytes.Buffer{}
		f.answering(list(10, kv("a", "1", 5)), nil)
		f.opening = watchBound - time.Second
		g := newGroup(f, &hooks{}, log)
		defer g.Close()
		for range 10 * maxStreams {
			defer g.Follow(testSpec(), func(Update[string]) {})()
		}
		time.Sleep(11 * watchBound)
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.watches); n != 10*maxStreams || log.Len() > 0 {
			t.Errorf("%d watches were opened, want %d; log %q", n, 10*maxStreams, log)
		}
	})
}

func TestWaitingForATurnEndsWithTheContext(t *testing.T) {
	s := NewStreams()
	first, err := s.open(t.Context(), false, &follower{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.open(ctx, false, &follower{}); !errors.Is(err, context.Canceled) {
		t.Errorf("while another opens: %v, want the context's error", err)
	}
	s.opened(first)
	if again, err := s.open(t.Context(), false, &follower{}); err != nil || again != first {
		t.Errorf("after it: stream %v, %v, want the first again", again, err)
	}
}

func TestStreamsTellTheirWatches(t *testing.T) {
	s := NewStreams()
	var lost [3]int
	followers, on := [3]*follower{}, [3]*stream{}
	for i := range followers {
		followers[i] = &follower{first: int64(10 * i), lost: func() { lost[i]++ }}
		on[i], _ = s.open(t.Context(), false, followers[i])
		if i != 1 {
			s.opened(on[i])
		}
		if i == 1 {
			s.retire(on[i])
		}
	}
	if on[0] != on[1] || on[1] == on[2] {
		t.Fatalf("the watches are on the streams %v, want two on one", on)
	}
	if s.lost(on[0]); lost != [3]int{1, 1, 0} {
		t.Errorf("a stream is lost: told %v", lost)
	}
	if latest := [2]int64{s.latest(on[0]), s.latest(on[2])}; latest != [2]int64{10, 20} {
		t.Errorf("the latest watches of the streams began at %v", latest)
	}
	s.closed(on[0], followers[0])
	if s.lost(on[0]); lost != [3]int{1, 2, 0} {
		t.Errorf("after a watch was closed: told %v", lost)
	}
	s.closed(on[1], followers[1])
	s.closed(on[2], followers[2])
	if len(s.followers) != 0 || len(s.waiting) != 0 {
		t.Errorf("%d streams are remembered that have no watch, and %d turns", len(s.followers), len(s.waiting))
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
		gone, leave := context.WithCancel(t.Context())
		go func() {
			_, _ = s.head(gone, 0, func() (*etcdserverpb.ResponseHeader, error) {
				time.Sleep(time.Second)
				return nil, gone.Err()
			})
		}()
		synctest.Wait()
		leave()
		if h, err := s.head(t.Context(), time.Hour, read); err != nil || h.header.Revision != 1 {
			t.Errorf("a head of long ago: %v, %v", h.header, err)
		}
		if h, err := s.head(t.Context(), 500*time.Millisecond, read); err != nil || h.header.Revision != 2 {
			t.Errorf("who read has ended: %v, %v, want it to be read again", h.header, err)
		}
		time.Sleep(time.Second)
		away := errors.New("away")
		if _, err := s.head(t.Context(), 500*time.Millisecond, func() (*etcdserverpb.ResponseHeader, error) { return nil, away }); !errors.Is(err, away) {
			t.Errorf("etcd is away: %v", err)
		}
		if h, err := s.head(t.Context(), 500*time.Millisecond, read); err != nil || h.header.Revision != 3 {
			t.Errorf("after a second: %v, %v", h.header, err)
		}
	})
}
