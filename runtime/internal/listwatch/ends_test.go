package listwatch

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// silentEtcd does not answer watches, or does not even connect.
type silentEtcd struct {
	connects bool
	reached  chan struct{} // receives when it is being connected to, and when a watch is asked for
}

type silentStream struct {
	etcdserverpb.Watch_WatchClient
	ctx     context.Context
	reached chan struct{}
}

func (e silentEtcd) Watch(ctx context.Context, _ ...grpc.CallOption) (etcdserverpb.Watch_WatchClient, error) {
	e.reached <- struct{}{}
	if !e.connects {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return silentStream{ctx: ctx, reached: e.reached}, nil
}

func (s silentStream) Send(*etcdserverpb.WatchRequest) error {
	s.reached <- struct{}{}
	return nil
}

func (s silentStream) Recv() (*etcdserverpb.WatchResponse, error) {
	<-s.ctx.Done()
	return nil, status.FromContextError(s.ctx.Err()).Err()
}

func (s silentStream) CloseSend() error { return nil }

// serving counts the goroutines of the etcd client's streams.
func serving() int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "go.etcd.io/etcd/client/v3.(*watchG")
}

// A watch that is given up while it is opened leaves no stream behind, once that has no other watch.
func TestStreamsThatAreGivenUpEnd(t *testing.T) {
	for name, etcd := range map[string]silentEtcd{
		"there is no connection": {connects: false, reached: make(chan struct{}, 10)},
		"etcd does not answer":   {connects: true, reached: make(chan struct{}, 10)},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStreams()
			watcher := clientv3.NewWatchFromWatchClient(boundedWatch{etcd, s}, clientv3.NewCtxClient(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			watched := make(chan struct{})
			give := func() *follower { return &follower{lost: func() {}, anew: func() {}} }
			other := s.follow(0, give(), func() {})
			stop := s.follow(0, give(), func() {
				go func() {
					defer close(watched)
					for range watcher.Watch(s.on(ctx, 0), "a") {
					}
				}()
				if <-etcd.reached; etcd.connects {
					<-etcd.reached
				}
			})
			s.retire(0)
			cancel()
			<-watched
			stop()
			if serving() == 0 {
				t.Error("a stream ends that another watch follows")
			}
			other()
			for deadline := time.Now().Add(5 * time.Second); serving() > 0; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatal("goroutines of the stream are left")
				}
			}
			if len(s.ends) != 0 {
				t.Errorf("%d streams are remembered that have ended", len(s.ends))
			}
			late, _ := s.bound(s.on(t.Context(), 0))
			if late.Err() == nil || len(s.ends) != 0 {
				t.Error("a stream that has no watch can be made again")
			}
			current, end := s.bound(s.on(t.Context(), 1))
			if current.Err() != nil {
				t.Error("a stream that is not retired is not used")
			}
			end()
		})
	}
}
