package listwatch

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// theirs is a WatchClient of the caller's. It makes no stream before connect is closed, and answers nothing before answer is.
type theirs struct {
	connect, answer, lose chan struct{}

	made chan string // receives when a stream is being made
}

func newTheirs() *theirs {
	return &theirs{connect: make(chan struct{}), answer: make(chan struct{}), lose: make(chan struct{}), made: make(chan string, 100)}
}

func (e *theirs) Watch(ctx context.Context, _ ...grpc.CallOption) (etcdserverpb.Watch_WatchClient, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	e.made <- strings.Join(md.Get(streamKey), ",")
	select {
	case <-e.connect:
		return &theirStream{ctx: ctx, e: e, asked: make(chan struct{}, 100)}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

type theirStream struct {
	etcdserverpb.Watch_WatchClient
	ctx   context.Context
	e     *theirs
	asked chan struct{} // receives when a watch is asked for
	id    int64
}

func (s *theirStream) Send(req *etcdserverpb.WatchRequest) error {
	if req.GetCreateRequest() != nil {
		s.asked <- struct{}{}
	}
	return nil
}

func (s *theirStream) Recv() (*etcdserverpb.WatchResponse, error) {
	asked := s.asked
	for {
		select {
		case <-asked:
			select {
			case <-s.e.answer:
			case <-s.ctx.Done():
				return nil, status.FromContextError(s.ctx.Err()).Err()
			}
			s.id++
			return &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 1}, WatchId: s.id, Created: true}, nil
		case s.e.lose <- struct{}{}:
			return nil, status.Error(codes.Unavailable, "lost")
		case <-s.ctx.Done():
			return nil, status.FromContextError(s.ctx.Err()).Err()
		}
	}
}

func (s *theirStream) CloseSend() error { return nil }

// opens returns how a watch is opened by a Watcher that the caller has made of a stub.
func opens(t *testing.T, e *theirs) func(context.Context) clientv3.WatchChan {
	client := clientv3.NewCtxClient(t.Context())
	client.Watcher = clientv3.NewWatchFromWatchClient(e, client)
	return func(ctx context.Context) clientv3.WatchChan { return client.Watch(ctx, "a", clientv3.WithRev(2)) }
}

// However many watches are given up while they are opened, few streams are made for them, and watches can be opened
// on each once etcd answers.
func TestG30_StreamsAreUsedAgain(t *testing.T) {
	for name, connects := range map[string]bool{"there is no connection": false, "etcd does not answer": true} {
		t.Run(name, func(t *testing.T) {
			e, s := newTheirs(), NewStreams()
			if connects {
				close(e.connect)
			}
			watch := opens(t, e)
			// open opens a watch on a stream.
			open := func(ctx context.Context) (on *stream, stop func()) {
				f := &follower{lost: func() {}}
				on, err := s.open(t.Context(), false, f)
				if err != nil {
					t.Fatal(err)
				}
				defer s.opened(on)
				ctx, opened := s.watchOn(ctx, on)
				watch(ctx)
				opened()
				return on, func() { s.closed(on, f) }
			}
			made := make(map[*stream]bool)
			for range 30 {
				ctx, cancel := context.WithCancel(t.Context())
				if len(s.turns.live) == 0 && len(s.turns.unused) < spareStreams {
					go func() { <-e.made; cancel() }()
				} else {
					cancel()
				}
				on, stop := open(ctx)
				made[on] = true
				s.retire(on)
				stop()
			}
			if len(made) > spareStreams+1 {
				t.Errorf("%d streams are made, want %d at the most", len(made), spareStreams+1)
			}
			if !connects {
				close(e.connect)
			}
			close(e.answer)
			for range made {
				ctx, cancel := context.WithCancel(t.Context())
				on, stop := open(ctx)
				cancel()
				s.retire(on)
				stop()
			}
			if n := len(s.turns.unused); n > spareStreams+1 {
				t.Errorf("%d streams are kept without a watch", n)
			}
		})
	}
}

// TestD4_AStreamThatIsMadeAnewIsTold has the etcd client reopen the stream of two watches, which it hides.
func TestD4_AStreamThatIsMadeAnewIsTold(t *testing.T) {
	e, s := newTheirs(), NewStreams()
	close(e.connect)
	close(e.answer)
	open := opens(t, e)
	told := make(chan int, 10)
	for i := range 2 {
		f := &follower{lost: func() { told <- i }}
		on, err := s.open(t.Context(), false, f)
		if err != nil {
			t.Fatal(err)
		}
		ctx, opened := s.watchOn(t.Context(), on)
		open(ctx)
		opened()
		s.opened(on)
	}
	if len(told) != 0 {
		t.Errorf("%d are told of a stream that stands", len(told))
	}
	<-e.lose
	if a, b := <-told, <-told; a+b != 1 {
		t.Errorf("%d and %d are told, want each", a, b)
	}
}

// Two registries may have one etcd client. The loss of a stream is known by the context of its first watch alone, so they share
// none: each hears of its own.
func TestK12_RegistriesOfAClientShareNoStream(t *testing.T) {
	e := newTheirs()
	close(e.connect)
	close(e.answer)
	watch := opens(t, e)
	var lost [2]chan struct{}
	var last any
	for i := range lost {
		lost[i] = make(chan struct{}, 100)
		s := NewStreams()
		on, err := s.open(t.Context(), false, &follower{lost: func() { lost[i] <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, opened := s.watchOn(t.Context(), on)
		watch(ctx)
		opened()
		s.opened(on)
		md, _ := metadata.FromOutgoingContext(ctx)
		if reflect.DeepEqual(md, last) {
			t.Fatalf("both are on the stream of %v", md)
		}
		last = md
	}
	<-e.lose
	<-e.lose
	for _, lost := range lost {
		<-lost
	}
}
