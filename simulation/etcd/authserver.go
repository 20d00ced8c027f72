package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
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
