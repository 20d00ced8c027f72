// Package etcderr reads the errors of the etcd client, whose own type has a code but no gRPC status.
package etcderr

import (
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Code is the gRPC code of an error, as package status gives it for others.
func Code(err error) codes.Code {
	if code, ok := Answer(err); ok {
		return code
	}
	return status.Code(err)
}

// Answer is the code of an error that etcd itself has answered. ok is false for any other.
func Answer(err error) (code codes.Code, ok bool) {
	var e rpctypes.EtcdError
	if !errors.As(err, &e) {
		return codes.OK, false
	}
	return e.Code(), true
}

// Refused tells whether a code says that etcd would answer a read in the same way if it were asked
// again, until someone changes something.
func Refused(code codes.Code) bool {
	return code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.InvalidArgument
}
