package listwatch

import (
	"context"
	"errors"
	"reflect"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// maxAnswer is how many bytes an answer to a read may have. Any one entry fits, for etcd takes requests of up to
// 1.5 MiB by default.
const maxAnswer = 2 << 20

// maxWatchAnswer bounds an answer of a watch. etcd puts up to a thousand revisions into one after a pause. A
// watch that exceeds it ends, and the range is listed again.
const maxWatchAnswer = 8 << 20

// Where the size of an answer is not bounded, pages have no more keys than these: the first, and the others.
const (
	unboundedFirst = 8
	unboundedPage  = 64
)

var errTooLarge = errors.New("the entry is too large to be received")

// Bounded returns a client that receives no answer to a read of more than 2 MiB, and none of a watch of more than
// 8 MiB, so that large values cost no more memory than that. A KV or Watcher that the caller has put into c is left
// as it is: its answers have the bound of the configuration that c was made with, and its streams are made anew unseen.
func Bounded(c *clientv3.Client) (Client, *Streams) {
	b, streams := boundedClient{Client: c, kv: c.KV, watcher: c.Watcher}, NewStreams()
	if own := clientv3.NewKV(c); reflect.TypeOf(c.KV) == reflect.TypeOf(own) {
		b.pages = true
		b.kv = clientv3.NewKVFromKVClient(boundedKV{clientv3.RetryKVClient(c)}, c)
	}
	if own := clientv3.NewWatcher(c); reflect.TypeOf(c.Watcher) == reflect.TypeOf(own) {
		streams.seen = true
		b.watcher = clientv3.NewWatchFromWatchClient(boundedWatch{etcdserverpb.NewWatchClient(c.ActiveConnection()), streams}, c)
	}
	return b, streams
}

type boundedClient struct {
	*clientv3.Client
	kv      clientv3.KV
	watcher clientv3.Watcher
	pages   bool // kv bounds its answers
}

// Get reads through the bounded KV.
func (c boundedClient) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return c.kv.Get(ctx, key, opts...)
}

// Watch watches through the bounded Watcher.
func (c boundedClient) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return c.watcher.Watch(ctx, key, opts...)
}

// RequestProgress asks the bounded Watcher.
func (c boundedClient) RequestProgress(ctx context.Context) error {
	return c.watcher.RequestProgress(ctx)
}

// boundsPages reports whether the size of a client's answers to reads is bounded, or the client is not etcd's own.
func boundsPages(c Client) bool {
	b, ok := c.(boundedClient)
	return !ok || b.pages
}

type boundedKV struct{ etcdserverpb.KVClient }

// Range adds the bound to the options of a call.
func (kv boundedKV) Range(ctx context.Context, req *etcdserverpb.RangeRequest, opts ...grpc.CallOption) (*etcdserverpb.RangeResponse, error) {
	return kv.KVClient.Range(ctx, req, append(opts[:len(opts):len(opts)], grpc.MaxCallRecvMsgSize(maxAnswer))...)
}

type boundedWatch struct {
	etcdserverpb.WatchClient
	streams *Streams
}

// Watch adds the bound to the options of a stream. The etcd client calls it for the first watch of a stream, and again
// whenever the stream was lost.
func (w boundedWatch) Watch(ctx context.Context, opts ...grpc.CallOption) (etcdserverpb.Watch_WatchClient, error) {
	ctx, end := w.streams.bound(ctx)
	stream, err := w.WatchClient.Watch(ctx, append(opts[:len(opts):len(opts)], grpc.MaxCallRecvMsgSize(maxWatchAnswer))...)
	if err != nil {
		end()
		return nil, err
	}
	w.streams.made(ctx)
	return boundedStream{stream, func() {
		end()
		w.streams.lost(ctx)
	}}, nil
}

type boundedStream struct {
	etcdserverpb.Watch_WatchClient
	lost func()
}

// Recv notes when the stream is lost.
func (s boundedStream) Recv() (*etcdserverpb.WatchResponse, error) {
	resp, err := s.Watch_WatchClient.Recv()
	if err != nil {
		s.lost()
	}
	return resp, err
}
