package lease

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeWatch is an etcd that answers watches as it is told.
type fakeWatch struct {
	open    func(ctx context.Context) error // nil: at once
	reached chan struct{}                   // receives when a stream is being opened, and when a watch is asked for
	answers chan *pb.WatchResponse          // for whichever stream
}

type fakeStream struct {
	pb.Watch_WatchClient
	ctx context.Context
	f   *fakeWatch
}

func (f *fakeWatch) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	f.reached <- struct{}{}
	if f.open != nil {
		if err := f.open(ctx); err != nil {
			return nil, err
		}
	}
	return &fakeStream{ctx: ctx, f: f}, nil
}

func (s *fakeStream) Send(*pb.WatchRequest) error {
	s.f.reached <- struct{}{}
	return nil
}

func (s *fakeStream) Recv() (*pb.WatchResponse, error) {
	select {
	case answer := <-s.f.answers:
		return answer, nil
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

func (s *fakeStream) CloseSend() error { return nil }

var (
	created = &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 1}, Created: true}
	denied  = &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 1}, WatchId: -1, Created: true, Canceled: true,
		CancelReason: "etcdserver: permission denied"}
)

// streams counts the goroutines of the etcd client's streams.
func streams() int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "go.etcd.io/etcd/client/v3.(*watchG")
}

// ended fails the test unless the stream can be closed soon, and nothing of it is left.
func ended(t *testing.T, s stream) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Close() // what its stream has met does not matter
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the stream cannot be closed")
	}
	for deadline := time.Now().Add(5 * time.Second); streams() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("goroutines of the stream are left")
		}
	}
}

// A watch that is given up leaves nothing, however far it has come.
func TestG30_StreamsEndInWhateverState(t *testing.T) {
	for _, tt := range []struct {
		state   string
		open    func(ctx context.Context) error
		reached int // of the steps
		answer  *pb.WatchResponse
		returns bool // Watch has returned
	}{
		{state: "there is no connection", open: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, reached: 1},
		{state: "etcd is away", open: func(context.Context) error { return status.Error(codes.Unavailable, "away") }, reached: 2},
		{state: "etcd does not answer", reached: 2},
		{state: "etcd has answered", reached: 2, answer: created, returns: true},
		{state: "etcd has denied it", reached: 2, answer: denied, returns: true},
	} {
		t.Run(tt.state, func(t *testing.T) {
			f := &fakeWatch{open: tt.open, reached: make(chan struct{}, 1000), answers: make(chan *pb.WatchResponse, 1)}
			s := ownStream(f, clientv3.NewCtxClient(t.Context()))
			ctx, cancel := context.WithCancel(t.Context())
			opened := make(chan clientv3.WatchChan, 1)
			go func() { opened <- s.Watch(ctx, "a") }()
			for range tt.reached {
				<-f.reached
			}
			if tt.answer != nil {
				f.answers <- tt.answer
			}
			if tt.returns {
				answers := <-opened
				if tt.answer == denied {
					if answer := <-answers; !isDenied(answer.Err()) {
						t.Errorf("a denied watch ends with %v", answer.Err())
					}
				}
				opened <- answers
			}
			cancel()
			for range <-opened {
			}
			ended(t, s)
		})
	}
}

// That etcd denies a watch while it is given up must not keep the stream from ending.
func TestG30_ADenialMeetsTheEnd(t *testing.T) {
	for range 2000 {
		f := &fakeWatch{reached: make(chan struct{}, 1000), answers: make(chan *pb.WatchResponse)}
		s := ownStream(f, clientv3.NewCtxClient(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		go s.Watch(ctx, "a")
		<-f.reached
		<-f.reached
		f.answers <- denied
		cancel()
		ended(t, s)
	}
}

// theirWatcher is a Watcher of the caller's.
type theirWatcher struct{ clientv3.Watcher }

func (theirWatcher) Close() error { panic("a Watcher of the caller's was closed") }

func TestTheCallersWatcherIsUsed(t *testing.T) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	plain := c.Watcher
	defer func() {
		c.Watcher = plain
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if s := newStream(c); !s.own || s.Watcher == plain {
		t.Error("a watch has no stream of its own")
	}
	c.Watcher = theirWatcher{plain}
	s := newStream(c)
	if s.own || s.Watcher != c.Watcher {
		t.Errorf("the caller's Watcher is not used but %T", s.Watcher)
	}
	s.end()
	parts := clientv3.NewCtxClient(t.Context())
	parts.Watcher = plain
	if s := newStream(parts); s.own || s.Watcher != plain {
		t.Errorf("without a connection, the client's Watcher is not used but %T", s.Watcher)
	}
}
