package etcd

import (
	"math"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	maxRequestBytes = 1.5 * 1024 * 1024
	grpcOverhead    = 512 * 1024
)

// newServer returns a gRPC server with etcd's services and limits.
func (n *node) newServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxRequestBytes+grpcOverhead),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.WaitForHandlers(true),
	)
	pb.RegisterKVServer(s, &kvServer{n: n})
	pb.RegisterWatchServer(s, &watchServer{n: n})
	pb.RegisterLeaseServer(s, &leaseServer{n: n})
	pb.RegisterAuthServer(s, &authServer{n: n})
	pb.RegisterMaintenanceServer(s, &maintenanceServer{n: n})
	return s
}
