package etcd

import (
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

type watchServer struct {
	pb.UnimplementedWatchServer
	n *node
}

// Watch carries the watches of one stream.
func (s *watchServer) Watch(server pb.Watch_WatchServer) error {
	return s.n.stream(server.Context(), func(st *stream) error {
		s.n.c.tasks.Go(func() {
			for {
				r, err := server.Recv()
				if err == nil {
					err = st.accept(r)
				}
				if errors.Is(err, io.EOF) {
					return // the client has no more to say; it still wants to hear
				}
				if err != nil {
					st.end(err)
					return
				}
			}
		})
		return st.sendAll(server.Send)
	})
}

// sendAll sends what is queued, until the stream ends.
func (s *stream) sendAll(send func(*pb.WatchResponse) error) error {
	for {
		select {
		case <-s.signal:
		case err := <-s.ended:
			return err
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-s.n.stop:
			return errStopped
		}
		for _, r := range s.take() {
			if err := send(r); err != nil {
				return err
			}
		}
	}
}

// take returns what is queued, ready to be sent.
func (s *stream) take() []*pb.WatchResponse {
	s.n.c.mu.Lock()
	defer s.n.c.unlock()
	if s.held {
		return nil
	}
	queue := s.watches.queue
	s.watches.queue = nil
	for _, r := range queue {
		s.n.sign(r.Header)
	}
	return queue
}

// accept carries out one message of the client's.
func (s *stream) accept(r *pb.WatchRequest) error {
	switch u := r.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		return s.create(u.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		s.change(func() { s.watches.cancel(s.n.view(), u.CancelRequest.GetWatchId()) })
	case *pb.WatchRequest_ProgressRequest:
		s.change(func() { s.watches.progressAll(s.n.view()) })
	}
	return nil
}

// change calls f under the lock and has the stream send what f queues.
func (s *stream) change(f func()) {
	s.n.c.mu.Lock()
	f()
	s.n.c.unlock()
	s.wake()
}

// create adds a watch. One whose answer is to be lost is as if it had never been asked for.
func (s *stream) create(r *pb.WatchCreateRequest) error {
	v := s.n.c.arrive(Call{Client: host(s.ctx), Member: s.n.i, Method: "Watch", Keys: []string{string(r.GetKey())}})
	if v.Err == nil && (v.Lose || r == nil) {
		return nil
	}
	if err := s.n.sleep(v.Before); err != nil {
		return err
	}
	if v.Err != nil {
		return v.Err
	}
	who, err := s.n.identify(s.ctx)
	may := func(keys span) error {
		if err != nil {
			return err
		}
		return s.n.c.state.auth.may(who, keys, false)
	}
	s.change(func() {
		if !s.watches.behind() {
			s.resync = s.n.c.nextResync(time.Now())
		}
		s.watches.create(s.n.view(), r, may)
		s.held = v.After > 0
	})
	if v.After == 0 {
		return nil
	}
	err = s.n.sleep(v.After)
	s.change(func() { s.held = false })
	return err
}

// nextResync returns when watches that begin in the past hear of it.
func (c *Cluster) nextResync(now time.Time) time.Time {
	began := c.state.lessor.began
	return began.Add(now.Sub(began).Truncate(resyncPeriod) + resyncPeriod)
}
