package etcd

import (
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The answers of etcd to what it refuses.
var (
	errCompacted        = rpctypes.ErrGRPCCompacted
	errFutureRev        = rpctypes.ErrGRPCFutureRev
	errKeyNotFound      = rpctypes.ErrGRPCKeyNotFound
	errLeaseNotFound    = rpctypes.ErrGRPCLeaseNotFound
	errLeaseExists      = rpctypes.ErrGRPCLeaseExist
	errTTLTooLarge      = rpctypes.ErrGRPCLeaseTTLTooLarge
	errNoSpace          = rpctypes.ErrGRPCNoSpace
	errPermissionDenied = rpctypes.ErrGRPCPermissionDenied
	errUserEmpty        = rpctypes.ErrGRPCUserEmpty
	errInvalidToken     = rpctypes.ErrGRPCInvalidAuthToken
	errOldRights        = rpctypes.ErrGRPCAuthOldRevision
	errAuthFailed       = rpctypes.ErrGRPCAuthFailed
	errAuthNotEnabled   = rpctypes.ErrGRPCAuthNotEnabled
)

// The answers of etcd to what it cannot do for now.
var (
	errNoLeader      = rpctypes.ErrGRPCNoLeader
	errLeaderChanged = rpctypes.ErrGRPCLeaderChanged
	errLeaderFailed  = rpctypes.ErrGRPCTimeoutDueToLeaderFail
	errTimeout       = rpctypes.ErrGRPCTimeout
	errStopped       = rpctypes.ErrGRPCStopped
	errExpired       = status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	errTooLarge      = rpctypes.ErrGRPCRequestTooLarge
	errTooMany       = rpctypes.ErrTooManyRequests // on the wire of code Unknown, for it is not one of gRPC's
)
