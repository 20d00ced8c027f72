package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
)

type maintenanceServer struct {
	pb.UnimplementedMaintenanceServer
	n *node
}

// Status describes the member.
func (s *maintenanceServer) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusResponse, error) {
	return serve(ctx, s.n, Call{Method: "Status"}, func() (*pb.StatusResponse, error) {
		if err := s.n.known(ctx); err != nil {
			return nil, err
		}
		resp := &pb.StatusResponse{Header: &pb.ResponseHeader{}, DowngradeInfo: &pb.DowngradeInfo{}}
		s.n.fill(resp.Header)
		c := s.n.c
		c.mu.Lock()
		defer c.mu.Unlock()
		resp.Version, resp.StorageVersion = version.Version, "3.7.0"
		resp.DbSize, resp.DbSizeInUse = c.state.store.size, c.state.store.size
		resp.RaftTerm, resp.RaftIndex = c.members.term, uint64(c.members.last.index)
		resp.RaftAppliedIndex = uint64(c.members.all[s.n.i].applied.index)
		if c.members.seesLeader(s.n.i, time.Now()) && c.members.leader >= 0 {
			resp.Leader = memberID + uint64(c.members.leader)
		} else {
			resp.Errors = append(resp.Errors, "etcdserver: no leader")
		}
		for _, a := range c.state.alarms {
			resp.Errors = append(resp.Errors, a.String())
		}
		return resp, nil
	})
}

// Alarm raises, ends or lists alarms.
func (s *maintenanceServer) Alarm(ctx context.Context, r *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return serve(ctx, s.n, Call{Method: "Alarm", Write: r.Action != pb.AlarmRequest_GET}, func() (*pb.AlarmResponse, error) {
		check := s.n.admin
		if r.Action == pb.AlarmRequest_GET {
			check = s.n.known
		}
		if err := check(ctx); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(requester, time.Time) (*pb.AlarmResponse, error) {
			resp := s.n.c.state.alarm(r)
			resp.Header = &pb.ResponseHeader{}
			return resp, nil
		})
	})
}
