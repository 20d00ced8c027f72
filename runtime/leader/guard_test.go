package leader

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
)

// silentStream is a stream whose caller sends nothing.
type silentStream struct {
	grpc.ServerStream
	asked chan struct{}
	calls atomic.Int64
	end   chan struct{}
}

func (s *silentStream) RecvMsg(any) error {
	s.calls.Add(1)
	s.asked <- struct{}{}
	<-s.end
	return nil
}

// A stream is asked for one message at a time, also by a handler that asks on after the end.
func TestOneRecvAtATime(t *testing.T) {
	leading, end := context.WithCancelCause(t.Context())
	below := &silentStream{asked: make(chan struct{}, 10), end: make(chan struct{})}
	defer close(below.end)
	stream := leaderStream{below, leading}
	go func() {
		<-below.asked
		end(ErrEnded)
	}()
	for range 5 {
		if err := stream.RecvMsg(nil); !errors.Is(err, ErrEnded) {
			t.Errorf("RecvMsg returns %v", err)
		}
	}
	if n := below.calls.Load(); n != 1 {
		t.Errorf("the stream below was asked %d times", n)
	}
}
