package leader

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// feedingStream is a stream whose caller sends message when the channel sent is closed.
type feedingStream struct {
	grpc.ServerStream
	asked   chan struct{} // each RecvMsg adds an item
	sent    chan struct{}
	message []byte
}

func (s *feedingStream) RecvMsg(m any) error {
	s.asked <- struct{}{}
	<-s.sent
	if m, ok := m.(proto.Message); ok {
		return proto.Unmarshal(s.message, m)
	}
	return nil // m belongs to another codec
}

func feed(t *testing.T, message proto.Message) *feedingStream {
	t.Helper()
	b, err := proto.Marshal(message)
	must.Succeed(t, err)
	return &feedingStream{asked: make(chan struct{}, 10), sent: make(chan struct{}), message: b}
}

// A stream gets one RecvMsg at a time, even if its handler calls RecvMsg after the end of the leadership. The handler may reuse its
// message once RecvMsg has returned, before the caller's next message arrives.
func TestLeaderStream_EndsWithTheLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leading, end := context.WithCancelCause(t.Context())
		below := feed(t, structpb.NewStringValue("late"))
		go func() {
			<-below.asked
			end(ErrEnded)
		}()
		stream, m := leaderStream{below, leading}, structpb.NewStringValue("")
		for range 5 {
			if err := stream.RecvMsg(m); !errors.Is(err, ErrEnded) {
				t.Errorf("RecvMsg at the end of the leadership, or later, returned %v, want ErrEnded", err)
			}
		}
		m.Kind = &structpb.Value_StringValue{StringValue: "reused"}
		close(below.sent)
		synctest.Wait()
		if n, got := len(below.asked), m.GetStringValue(); n > 0 || got != "reused" {
			t.Errorf("the underlying stream got %d further calls of RecvMsg, and the reused message is %q, want none and %q", n, got, "reused")
		}
	})
}

// RecvMsg replaces the whole content of the handler's message.
func TestLeaderStream_ReplacesWholeMessages(t *testing.T) {
	sent, err := structpb.NewStruct(map[string]any{"a": []any{1, "b"}, "c": map[string]any{"d": true}})
	must.Succeed(t, err)
	sent.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01}) // field 99
	m, err := structpb.NewStruct(map[string]any{"a": "before", "e": nil})
	must.Succeed(t, err)
	below := feed(t, sent)
	close(below.sent)
	must.Succeed(t, (leaderStream{below, t.Context()}).RecvMsg(m))
	if !proto.Equal(m, sent) {
		t.Errorf("received %v, want %v", m, sent)
	}
}

// panickingStream is a stream whose RecvMsg panics, as that of an interceptor may.
type panickingStream struct{ grpc.ServerStream }

func (panickingStream) RecvMsg(any) error { panic("bad message") }

// A panic of the underlying stream reaches the handler's goroutine, where interceptors recover.
func TestLeaderStream_PanicsInTheHandler(t *testing.T) {
	defer func() {
		if got := recover(); got != "bad message" {
			t.Errorf("recovered %v, want the stream's panic", got)
		}
	}()
	err := (leaderStream{panickingStream{}, t.Context()}).RecvMsg(new(structpb.Value))
	t.Errorf("RecvMsg returned %v, want a panic", err)
}
