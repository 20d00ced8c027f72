package leader

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A stream ends with the leadership, even if its handler does not return, for
// example because it waits in RecvMsg.
func TestUntilEnded_DoesNotWaitForTheHandler(t *testing.T) {
	leading, end := context.WithCancelCause(t.Context())
	returns := make(chan struct{})
	err := untilEnded(leading, func() error {
		end(ErrEnded)
		<-returns

		return errors.New("late")
	})

	close(returns)

	if !errors.Is(err, ErrEnded) {
		t.Errorf("a stream ended with %v, want ErrEnded", err)
	}
}

// The result of a handler is that of its stream, also after the call has ended,
// or the handler its goroutine.
func TestUntilEnded_ReturnsWhatTheHandlerDoes(t *testing.T) {
	leading, end := context.WithCancel(t.Context())
	end() // the call has ended, not the leadership

	why := errors.New("why")
	if err := untilEnded(leading, func() error { return why }); !errors.Is(err, why) {
		t.Errorf("the stream of a handler that fails ended with %v, want its error", err)
	}

	err := untilEnded(leading, func() error {
		runtime.Goexit()
		return nil
	})
	if status.Code(err) != codes.Internal {
		t.Errorf("the stream of a handler that calls Goexit ended with %v, want INTERNAL", err)
	}
}

// A panic of the handler reaches the goroutine of the interceptors before
// Guard, which may recover.
func TestUntilEnded_PanicsWhereInterceptorsRecover(t *testing.T) {
	defer func() {
		if got := recover(); got != "bad message" {
			t.Errorf("recovered %v, want the handler's panic", got)
		}
	}()

	err := untilEnded(t.Context(), func() error { panic("bad message") })
	t.Errorf("untilEnded returned %v, want a panic", err)
}

// sendingStream is a stream whose caller has sent messages.
type sendingStream struct{ grpc.ServerStream }

func (sendingStream) RecvMsg(any) error {
	return nil
}

// A handler receives no message after the end of its stream: the caller may
// send it to the next leader, too.
func TestLeaderStream_ReceivesNothingAfterItsEnd(t *testing.T) {
	leading, end := context.WithCancelCause(t.Context())
	end(ErrEnded)

	err := (leaderStream{sendingStream{}, leading}).RecvMsg(nil)
	if !errors.Is(err, ErrEnded) {
		t.Errorf("RecvMsg after the end of the stream: %v, want ErrEnded", err)
	}
}
