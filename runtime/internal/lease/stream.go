package lease

import (
	"context"
	"errors"
	"reflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// stream is where a watch is opened. The etcd client keeps a stream whose watch was given up while it was being opened,
// as each reconnect has one, until its Watcher is closed. So each watch has a Watcher that is closed with it, on the
// client's connection.
type stream struct {
	clientv3.Watcher
	own bool // made for one watch
}

// newStream returns a stream for one watch. A Watcher that the caller has put into the client is used as it is: it may
// change keys, and streams below it are its own. One made by clientv3.NewWatchFromWatchClient cannot be told from the
// client's.
func newStream(c *clientv3.Client) stream {
	conn := c.ActiveConnection()
	if conn == nil || reflect.TypeOf(c.Watcher) != reflect.TypeOf(clientv3.NewWatcher(c)) {
		return stream{c.Watcher, false}
	}
	return ownStream(pb.NewWatchClient(conn), c)
}

func ownStream(remote pb.WatchClient, c *clientv3.Client) stream {
	return stream{clientv3.NewWatchFromWatchClient(endableWatch{remote}, c), true}
}

// end closes the stream. It does not wait for it: while etcd is away, the client sleeps for up to 0.1 s before it looks.
func (s stream) end() {
	if s.own {
		go func() { _ = s.Close() }() // its error says how a stream that nobody listens to has ended
	}
}

// endableWatch opens streams that the etcd client can close whatever their state.
type endableWatch struct{ pb.WatchClient }

func (w endableWatch) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	s, err := w.WatchClient.Watch(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return endableStream{s}, nil
}

type endableStream struct{ pb.Watch_WatchClient }

// Recv has the denial of a watch end the stream, as the client would have it a moment later. If it is closed in that
// moment, it waits for the watch for ever.
func (s endableStream) Recv() (*pb.WatchResponse, error) {
	resp, err := s.Watch_WatchClient.Recv()
	if err == nil && resp.Created && resp.Canceled {
		return nil, rpctypes.Error(errors.New(resp.CancelReason))
	}
	return resp, err
}
