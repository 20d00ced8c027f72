package etcd

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

type leaseServer struct {
	pb.UnimplementedLeaseServer
	n *node
}

// LeaseGrant answers a request for a lease.
func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return serve(ctx, s.n, Call{Method: "LeaseGrant", Write: true}, func() (*pb.LeaseGrantResponse, error) {
		if err := s.n.known(ctx); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(_ requester, now time.Time) (*pb.LeaseGrantResponse, error) {
			return s.n.c.state.grant(now, r)
		})
	})
}

// LeaseRevoke answers a request to end a lease.
func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return serve(ctx, s.n, Call{Method: "LeaseRevoke", Write: true}, func() (*pb.LeaseRevokeResponse, error) {
		if err := s.n.known(ctx); err != nil {
			return nil, err
		}
		return write(ctx, s.n, r, func(who requester, _ time.Time) (*pb.LeaseRevokeResponse, error) {
			return s.n.c.state.revoke(who, r.ID, false)
		})
	})
}

// LeaseTimeToLive answers how long a lease lives on.
func (s *leaseServer) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return serve(ctx, s.n, Call{Method: "LeaseTimeToLive"}, func() (*pb.LeaseTimeToLiveResponse, error) {
		who, err := s.n.identify(ctx)
		if err != nil {
			return nil, err
		}
		resp := &pb.LeaseTimeToLiveResponse{Header: &pb.ResponseHeader{}, ID: r.ID, TTL: -1}
		err = s.n.askLeader(ctx, func(now time.Time) (bool, error) {
			st := &s.n.c.state
			if err := st.auth.known(who); err != nil {
				return false, err
			}
			if r.Keys {
				if err := st.mayLease(who, r.ID, false); err != nil {
					return false, err
				}
				if st.auth.on() && who.rights != st.auth.revision {
					return false, errOldRights
				}
			}
			if l := st.lessor.leases[r.ID]; l != nil {
				resp.TTL, resp.GrantedTTL = int64(l.remaining(now).Seconds()), l.ttl
				if r.Keys {
					for _, key := range l.sortedKeys() {
						resp.Keys = append(resp.Keys, []byte(key))
					}
				}
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		s.n.fill(resp.Header)
		return resp, nil
	})
}

// LeaseLeases lists the leases.
func (s *leaseServer) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return serve(ctx, s.n, Call{Method: "LeaseLeases"}, func() (*pb.LeaseLeasesResponse, error) {
		return read(ctx, s.n, false, func(who requester, v view) (*pb.LeaseLeasesResponse, error) {
			st := &s.n.c.state
			if err := st.auth.known(who); err != nil {
				return nil, err
			}
			resp := &pb.LeaseLeasesResponse{Header: &pb.ResponseHeader{Revision: v.rev}}
			for _, l := range st.lessor.byExpiry() {
				if err := st.mayLease(who, l.id, false); err != nil {
					return nil, err
				}
				resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: l.id})
			}
			return resp, nil
		})
	})
}

// LeaseKeepAlive renews leases, as long as the client asks.
func (s *leaseServer) LeaseKeepAlive(server pb.Lease_LeaseKeepAliveServer) error {
	return s.n.stream(server.Context(), func(st *stream) error {
		return st.relay(func() error {
			r, err := server.Recv()
			if err != nil {
				return err
			}
			resp, err := s.renew(st, r)
			if err != nil || resp == nil {
				return err
			}
			return server.Send(resp)
		})
	})
}

// renew answers one message of a keepalive stream; nil when the answer is lost.
func (s *leaseServer) renew(st *stream, r *pb.LeaseKeepAliveRequest) (*pb.LeaseKeepAliveResponse, error) {
	call := Call{Client: host(st.ctx), Member: s.n.i, Method: "LeaseKeepAlive", Write: true}
	v := s.n.c.arrive(call)
	if err := s.n.sleep(v.Before); err != nil {
		return nil, err
	}
	if v.Err != nil {
		return nil, v.Err
	}
	resp := &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{}, ID: r.ID}
	s.n.fill(resp.Header)
	who, err := s.n.identify(st.ctx)
	if err != nil {
		return nil, err
	}
	err = s.n.askLeader(st.ctx, func(now time.Time) (bool, error) {
		state := &s.n.c.state
		if err := state.auth.known(who); err != nil {
			return false, err
		}
		if err := state.mayChangeLease(who, r.ID); err != nil {
			return false, err
		}
		l := state.lessor.leases[r.ID]
		if l == nil {
			return true, nil
		}
		if l.remaining(now) <= 0 {
			return false, nil // it is not renewed but about to be revoked
		}
		state.lessor.renew(now, l)
		resp.TTL = l.ttl
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.n.sleep(v.After); err != nil {
		return nil, err
	}
	if v.Lose {
		return nil, nil
	}
	return resp, nil
}

// byExpiry returns the leases, those that end first first.
func (ls *lessor) byExpiry() []*lease {
	out := make([]*lease, 0, len(ls.leases))
	for _, l := range ls.leases {
		out = append(out, l)
	}
	slices.SortFunc(out, byExpiry)
	return out
}
