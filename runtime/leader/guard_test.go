package leader

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// feedingStream is a stream whose caller sends message when the channel sent is closed.
type feedingStream struct {
	grpc.ServerStream
	asked, received chan struct{} // each RecvMsg adds an item at its start (asked) and at its end (received)
	sent            chan struct{}
	message         []byte
}

func (s *feedingStream) RecvMsg(m any) error {
	s.asked <- struct{}{}
	<-s.sent
	defer func() { s.received <- struct{}{} }()
	if m, ok := m.(proto.Message); ok {
		return proto.Unmarshal(s.message, m)
	}
	return nil // m belongs to another codec
}

func feed(t *testing.T, message proto.Message) *feedingStream {
	t.Helper()
	b, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return &feedingStream{asked: make(chan struct{}, 10), received: make(chan struct{}, 10), sent: make(chan struct{}), message: b}
}

// A stream gets one RecvMsg at a time, even if its handler calls RecvMsg after the end of the leadership.
func TestLeaderStream_ReceivesOneAtATime(t *testing.T) {
	leading, end := context.WithCancelCause(t.Context())
	below := feed(t, structpb.NewStringValue("late"))
	defer close(below.sent)
	stream := leaderStream{below, leading}
	go func() {
		<-below.asked
		end(ErrEnded)
	}()
	for range 5 {
		if err := stream.RecvMsg(nil); !errors.Is(err, ErrEnded) {
			t.Errorf("RecvMsg after the end of the leadership returned %v, want ErrEnded", err)
		}
	}
	if n := len(below.asked); n > 0 {
		t.Errorf("the underlying stream got %d further calls of RecvMsg, want 0", n)
	}
}

// A handler may reuse its message once RecvMsg has returned, before the caller's next message arrives.
func TestLeaderStream_LeavesMessagesAfterTheEnd(t *testing.T) {
	leading, end := context.WithCancelCause(t.Context())
	below := feed(t, structpb.NewStringValue("late"))
	go func() {
		<-below.asked
		end(ErrEnded)
	}()
	m := structpb.NewStringValue("")
	if err := (leaderStream{below, leading}).RecvMsg(m); !errors.Is(err, ErrEnded) {
		t.Fatalf("RecvMsg when the leadership ends returned %v, want ErrEnded", err)
	}
	m.Kind = &structpb.Value_StringValue{StringValue: "reused"}
	close(below.sent)
	<-below.received
	if got := m.GetStringValue(); got != "reused" {
		t.Errorf("after the handler reused its message, the message is %q, want %q", got, "reused")
	}
}

// RecvMsg replaces the whole content of the handler's message.
func TestLeaderStream_ReplacesWholeMessages(t *testing.T) {
	sent, err := structpb.NewStruct(map[string]any{"a": []any{1, "b"}, "c": map[string]any{"d": true}})
	if err != nil {
		t.Fatal(err)
	}
	sent.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01}) // field 99
	m, err := structpb.NewStruct(map[string]any{"a": "before", "e": nil})
	if err != nil {
		t.Fatal(err)
	}
	below := feed(t, sent)
	close(below.sent)
	if err := (leaderStream{below, t.Context()}).RecvMsg(m); err != nil {
		t.Fatal(err)
	}
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
