package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
)

type authServer struct {
	pb.UnimplementedAuthServer
	n *node
}

// Authenticate answers a password with a token.
func (s *authServer) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return serve(ctx, s.n, Call{Method: "Authenticate"}, func() (*pb.AuthenticateResponse, error) {
		resp := &pb.AuthenticateResponse{Header: &pb.ResponseHeader{}}
		err := s.n.propose(ctx, func(now time.Time) (err error) {
			resp.Token, err = s.n.c.state.auth.authenticate(now, r.Name, r.Password)
			return err
		})
		if err != nil {
			return nil, err
		}
		s.n.fill(resp.Header)
		return resp, nil
	})
}

// AuthStatus answers whether auth is on.
func (s *authServer) AuthStatus(ctx context.Context, r *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return serve(ctx, s.n, Call{Method: "AuthStatus"}, func() (*pb.AuthStatusResponse, error) {
		return write(ctx, s.n, r, func(requester, time.Time) (*pb.AuthStatusResponse, error) {
			a := &s.n.c.state.auth
			return &pb.AuthStatusResponse{Header: &pb.ResponseHeader{}, Enabled: a.on(), AuthRevision: a.revision}, nil
		})
	})
}

type maintenanceServer struct {
	pb.UnimplementedMaintenanceServer
	n *node
}

// Status answers how the member is.
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
		resp.DbSize, resp.DbSizeInUse, resp.DbSizeQuota = c.state.store.size, c.state.store.size, c.quota
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

type clusterServer struct {
	pb.UnimplementedClusterServer
	n *node
}

// MemberList lists the members.
func (s *clusterServer) MemberList(ctx context.Context, r *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return serve(ctx, s.n, Call{Method: "MemberList"}, func() (*pb.MemberListResponse, error) {
		if r.Linearizable {
			if err := s.n.agree(ctx); err != nil {
				return nil, err
			}
		}
		if err := s.n.known(ctx); err != nil {
			return nil, err
		}
		resp := &pb.MemberListResponse{Header: &pb.ResponseHeader{}}
		s.n.fill(resp.Header)
		resp.Header.Revision = 0
		s.n.c.mu.Lock()
		defer s.n.c.mu.Unlock()
		for i, n := range s.n.c.nodes {
			m := &pb.Member{ID: memberID + uint64(i), Name: fmt.Sprintf("m%d", i)}
			if n.conns != nil {
				m.ClientURLs = []string{"http://" + n.conns.Addr().String()}
			}
			resp.Members = append(resp.Members, m)
		}
		return resp, nil
	})
}
