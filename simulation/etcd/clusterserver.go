package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

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
			m := &pb.Member{ID: s.n.c.memberID(i), Name: fmt.Sprintf("m%d", i)}
			if n.conns != nil {
				m.ClientURLs = []string{"http://" + n.conns.Addr().String()}
			}
			resp.Members = append(resp.Members, m)
		}
		return resp, nil
	})
}
