package connectrpc

import (
	"context"
	"errors"
	"io"
	"testing"

	connectgo "connectrpc.com/connect"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/connect"
)

// Closing a registry ends its clients' streams, read or not, and a sender gets an error.
func TestRegistryCloses(t *testing.T) {
	w := newWorld(t)
	w.replying(replying{
		search: func(ctx context.Context, _ *connectgo.Request[connect.SearchRequest], stream *connectgo.ServerStream[connect.Book]) error {
			large := &connect.Book{Content: make([]byte, 1<<20)}
			for ctx.Err() == nil { // faster than any reader
				if err := stream.Send(large); err != nil {
					return err
				}
			}
			return ctx.Err()
		},
		chat: library{}.Chat,
	})
	client := w.client()
	unread, err := client.Search(kit.Bounded(t, soon), connectgo.NewRequest(&connect.SearchRequest{}))
	kit.Must(t, err)
	if !unread.Receive() {
		t.Fatal(unread.Err())
	}
	chat := client.Chat(kit.Bounded(t, soon))
	kit.Must(t, chat.Send(&connect.Book{}))
	_, err = chat.Receive()
	kit.Must(t, err)
	kit.Must(t, w.registry.Close(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "Send says that it is over", func() bool { return errors.Is(chat.Send(&connect.Book{}), io.EOF) })
	if _, err := chat.Receive(); connectgo.CodeOf(err) != connectgo.CodeCanceled && connectgo.CodeOf(err) != connectgo.CodeUnavailable {
		t.Errorf("Receive: %v", err)
	}
	for unread.Receive() {
	}
	if unread.Err() == nil {
		t.Error("the unread stream ends without an error")
	}
	_, err = client.Borrow(kit.Bounded(t, soon), connectgo.NewRequest(&connect.BorrowRequest{}))
	wantCode(t, err, connectgo.CodeCanceled, "closing")
}
