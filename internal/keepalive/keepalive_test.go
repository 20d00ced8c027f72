package keepalive

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// leases answers the renewals on one stream after another.
type leases struct {
	pb.UnimplementedLeaseServer
	streams chan pb.Lease_LeaseKeepAliveServer
}

func (l *leases) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error {
	l.streams <- s
	<-s.Context().Done()

	return nil
}

// answer answers n renewals.
func (l *leases) answer(t *testing.T, s pb.Lease_LeaseKeepAliveServer, n int) {
	for range n {
		request, err := s.Recv()
		if err == nil {
			err = s.Send(&pb.LeaseKeepAliveResponse{ID: request.ID, TTL: request.ID})
		}

		if err != nil {
			t.Error(err)
		}
	}
}

// elsewhere is a wrapper whose renewals reach another etcd, which has lease 0.
type elsewhere struct{ clientv3.Lease }

func (elsewhere) TimeToLive(
	context.Context,
	clientv3.LeaseID,
	...clientv3.LeaseOption,
) (*clientv3.LeaseTimeToLiveResponse, error) {
	return &clientv3.LeaseTimeToLiveResponse{}, nil
}

func (elsewhere) KeepAliveOnce(
	context.Context,
	clientv3.LeaseID,
) (*clientv3.LeaseKeepAliveResponse, error) {
	return &clientv3.LeaseKeepAliveResponse{}, nil
}

// All leases are renewed on one stream, which is one login. A stream on which
// etcd is silent is replaced, because it may lead to a dead member. It ends
// once etcd has answered after all.
func TestRenewer(t *testing.T) {
	const elections = 50

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)

	l := &leases{streams: make(chan pb.Lease_LeaseKeepAliveServer, elections)}
	server := grpc.NewServer()
	pb.RegisterLeaseServer(server, l)

	var serving, renewals sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // the test ends it

	addr := listener.Addr().String()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{addr, addr},
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})

	must.Succeed(t, err)

	client.Lease = elsewhere{client.Lease}
	life, end := context.WithCancel(t.Context())
	r := New(life, client, nil)

	renew := func(lease clientv3.LeaseID) {
		renewals.Go(func() {
			answer, err := r.Renew(life, lease, time.Minute)
			if err != nil || answer.TTL != int64(lease) {
				t.Errorf("lease %d: %+v, error %v, want a TTL of %[1]d s", lease, answer, err)
			}
		})
	}
	for i := range elections {
		renew(clientv3.LeaseID(i))
	}

	first := <-l.streams
	l.answer(t, first, elections)
	renewals.Wait()

	// Etcd is silent on the first stream, and answers there later.
	renew(1)
	request, err := first.Recv()
	must.Succeed(t, err)
	renew(1)
	second := <-l.streams
	l.answer(t, second, 1)

	if err := first.Send(&pb.LeaseKeepAliveResponse{ID: request.ID, TTL: 1}); err != nil {
		t.Error(err)
	}

	renewals.Wait()
	<-first.Context().Done()

	end()
	<-second.Context().Done()
	r.Wait()

	client.Close()
	server.Stop()
	serving.Wait()
}

// sent counts the renewals sent on a stream.
type sent struct {
	pb.Lease_LeaseKeepAliveClient
	n int
}

func (s *sent) Send(*pb.LeaseKeepAliveRequest) error {
	s.n++
	return nil
}

// A stream that is being opened is not replaced: it may be logging in. Before
// its first answer, nothing is sent on it, since that could block all renewals,
// and a lease has one renewal. Later, an answer is for one renewal.
func TestOpening(t *testing.T) {
	ended := false
	opening := &stream{
		end:     func() { ended = true },
		waiting: make(map[clientv3.LeaseID][]answers),
	}

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	must.Succeed(t, err)

	defer client.Close()

	r := &Renewer{client: client, current: opening}
	first, _ := r.send(1)
	second, _ := r.send(1)

	if first != opening || second != nil || len(opening.queued) != 1 {
		t.Errorf("two renewals before the stream is open: %d messages, want 1",
			len(opening.queued))
	}

	r.onSilence(opening, 0)

	sent := new(sent)
	opening.grpc = sent
	opening.since = time.Now()
	r.onSilence(opening, time.Hour)

	if ended {
		t.Error("the stream is ended before it is open, or just after")
	}

	r.send(2)

	if sent.n > 0 {
		t.Error("a renewal is sent before the first answer, want none")
	}

	answer := &pb.LeaseKeepAliveResponse{ID: 1, TTL: 1}
	opening.receive(answer)

	for range 2 {
		r.send(1)
	}

	opening.receive(answer)

	if len(opening.waiting[1]) != 1 {
		t.Errorf("after an answer, %d of 2 renewals of a lease wait, want the later one",
			len(opening.waiting[1]))
	}
}
