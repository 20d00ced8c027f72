package lease

import (
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

func isLeaseNotFound(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

func isDenied(err error) bool { return etcderr.Code(err) == codes.PermissionDenied }

func isFull(err error) bool { return errors.Is(err, rpctypes.ErrNoSpace) }

// isBusy reports whether etcd has dropped a request because it has too many.
func isBusy(err error) bool { return errors.Is(err, rpctypes.ErrTooManyRequests) }

// mayBeTooLarge reports whether a proxy may have refused a request for its size: gRPC has no code for HTTP's 413.
func mayBeTooLarge(err error) bool { return etcderr.Code(err) == codes.Unknown }

// isRefusal reports whether an error is an answer that a retry would not change.
func isRefusal(err error) bool {
	if isBusy(err) {
		return false
	}
	switch etcderr.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return false
}
