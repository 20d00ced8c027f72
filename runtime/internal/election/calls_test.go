package election

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// leases answers renewals once as many as asked have come, and counts the open streams.
type leases struct {
	pb.UnimplementedLeaseServer
	asked sync.WaitGroup
	open  atomic.Int64
	ended chan struct{}
}

func (l *leases) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error {
	l.open.Add(1)
	defer func() { l.open.Add(-1); l.ended <- struct{}{} }()
	request, err := s.Recv()
	if err != nil {
		return err
	}
	l.asked.Done()
	l.asked.Wait()
	if err := s.Send(&pb.LeaseKeepAliveResponse{ID: request.ID, TTL: 15}); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

// A connection to etcd may allow few streams. So many elections, which renew their leases all at once, keep only some of the streams.
func TestKeepAlive_KeepsFewStreams(t *testing.T) {
	const elections = 3 * maxIdle
	l := &leases{ended: make(chan struct{}, elections)}
	l.asked.Add(elections)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterLeaseServer(server, l)
	var serving, renewals sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // the test ends it
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{listener.Addr().String()}, DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(t.Context())
	keepAlives := NewKeepAlives(life)
	for i := range elections {
		renewals.Go(func() {
			if ttl, err := (calls{Client: client, KeepAlives: keepAlives}).keepAlive(life, clientv3.LeaseID(i+1)); ttl != 15*time.Second || err != nil {
				t.Errorf("TTL %v, error %v, want 15s", ttl, err)
			}
		})
	}
	renewals.Wait()
	for range elections - maxIdle {
		<-l.ended
	}
	if open := l.open.Load(); open != maxIdle {
		t.Errorf("%d streams stay open, want %d", open, maxIdle)
	}
	end()
	for range maxIdle {
		<-l.ended
	}
	client.Close()
	server.Stop()
	serving.Wait()
}
