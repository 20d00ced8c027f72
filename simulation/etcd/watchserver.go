package etcd

import (
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// progressInterval is how often watches hear of progress that have heard of nothing else.
const progressInterval = 10 * time.Minute

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
	progress := time.NewTicker(progressInterval)
	defer progress.Stop()
	for {
		select {
		case <-s.signal:
		case <-progress.C:
			s.n.c.mu.Lock()
			s.watches.progressIdle(s.n.view())
			s.n.c.mu.Unlock()
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
	queue := s.watches.queue
	s.watches.queue = nil
	for _, r := range queue {
		r.Header.ClusterId, r.Header.MemberId, r.Header.RaftTerm = clusterID, memberID+uint64(s.n.i), s.n.c.members.term
	}
	return queue
}

// accept carries out one message of the client's.
func (s *stream) accept(r *pb.WatchRequest) error {
	create := r.GetCreateRequest()
	if create == nil {
		s.n.c.mu.Lock()
		defer s.n.c.unlock()
		switch u := r.RequestUnion.(type) {
		case *pb.WatchRequest_CancelRequest:
			s.watches.cancel(s.n.view(), u.CancelRequest.GetWatchId())
		case *pb.WatchRequest_ProgressRequest:
			s.watches.progressAll(s.n.view())
		}
		s.wake()
		return nil
	}
	v := s.n.c.arrive(Call{Client: host(s.ctx), Member: s.n.i, Method: "Watch", Keys: []string{string(create.Key)}})
	if v.Err != nil {
		return v.Err
	}
	if v.Lose {
		return nil
	}
	if err := s.n.sleep(v.Before + v.After); err != nil {
		return err
	}
	who, denied := s.n.identify(s.ctx)
	s.n.c.mu.Lock()
	defer s.n.c.unlock()
	if denied == nil {
		denied = s.n.c.state.auth.may(who, spanOf(create.Key, create.RangeEnd), false)
	}
	s.watches.create(s.n.view(), create, denied)
	s.resync = s.n.c.nextResync(time.Now())
	s.wake()
	return nil
}

// nextResync returns when watches that begin in the past hear of it.
func (c *Cluster) nextResync(now time.Time) time.Time {
	began := c.state.lessor.began
	return began.Add(now.Sub(began).Truncate(resyncPeriod) + resyncPeriod)
}
