package etcd

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// stream is a stream of watches or of keepalives.
type stream struct {
	n           *node
	ctx         context.Context
	wantsLeader bool
	watches     watchStream
	held        bool          // a verdict withholds what is queued
	resync      time.Time     // when watches that are behind hear of the past
	signal      chan struct{} // there is something to send
	ended       chan error    // why the stream is to end
}

// stream keeps track of a stream while f has it.
func (n *node) stream(ctx context.Context, f func(*stream) error) error {
	if err := n.checkLeader(ctx); err != nil {
		return err
	}
	s := &stream{
		n: n, ctx: ctx, wantsLeader: wantsLeader(ctx),
		signal: make(chan struct{}, 1), ended: make(chan error, 2),
	}
	n.c.mu.Lock()
	n.streams = append(n.streams, s)
	n.c.mu.Unlock()
	defer func() {
		n.c.mu.Lock()
		n.streams = slices.DeleteFunc(n.streams, func(other *stream) bool { return other == s })
		n.c.mu.Unlock()
	}()
	return f(s)
}

// relay calls step repeatedly in the background, until it fails or the stream ends.
func (s *stream) relay(step func() error) error {
	s.n.c.tasks.Go(func() {
		for {
			err := step()
			if errors.Is(err, io.EOF) {
				s.end(nil)
				return
			}
			if err != nil {
				s.end(err)
				return
			}
		}
	})
	select {
	case err := <-s.ended:
		return err
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-s.n.stop:
		return errStopped
	}
}

// end has the stream end with err.
func (s *stream) end(err error) {
	select {
	case s.ended <- err:
	default:
	}
}

// wake has the stream send what it has queued.
func (s *stream) wake() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}
