package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

type maintenanceServer struct {
	pb.UnimplementedMaintenanceServer
	n *node
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
