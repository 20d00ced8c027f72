// Package etcderr reads errors of the etcd client, whose error type has a code
// but no gRPC status.
package etcderr

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Code returns the gRPC code of an error of the etcd client. For other errors
// it returns what package status returns.
func Code(err error) codes.Code {
	if code, ok := Answer(err); ok {
		return code
	}

	return status.Code(err)
}

// Answer returns the code of an error that etcd itself returned. ok is false
// for any other error.
func Answer(err error) (code codes.Code, ok bool) {
	var e rpctypes.EtcdError
	switch {
	case errors.As(err, &e):
		return e.Code(), true
	case err != nil && strings.Contains(err.Error(), deniedWatch):
		return codes.PermissionDenied, true
	}

	return codes.OK, false
}

// deniedWatch is the text of a denied watch. The etcd client passes it on
// without a code.
var deniedWatch = rpctypes.ErrGRPCPermissionDenied.Error()

// Refused reports whether etcd would refuse the same read again, until someone
// changes its configuration.
func Refused(err error) bool {
	code := Code(err)

	return code == codes.PermissionDenied ||
		code == codes.Unauthenticated ||
		code == codes.InvalidArgument
}

// TimedOut reports whether an error is an expired deadline. If the deadline
// expires first in etcd, the code is Unknown.
func TimedOut(err error) bool {
	late := context.DeadlineExceeded
	code := Code(err)

	return errors.Is(err, late) || code == codes.DeadlineExceeded ||
		code == codes.Unknown && strings.HasSuffix(err.Error(), late.Error())
}

// With adds the cause why to an error, unless why is nil, or its text is part
// of the error already.
func With(err, why error) error {
	if why == nil || strings.Contains(err.Error(), why.Error()) {
		return err
	}

	return fmt.Errorf("%w: %w", err, why)
}

// varying matches the parts of error texts that differ between two attempts:
// the local port, the address of the member, and the time at which a
// certificate was found to be expired.
var varying = regexp.MustCompile(
	`current time \S+|(\[[0-9a-fA-F:.%\w]*\]|[\w.-]+):\d+(->)?`)

// Same reports whether two errors are equal except for addresses and times.
func Same(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}

	textA := varying.ReplaceAllString(a.Error(), "")
	textB := varying.ReplaceAllString(b.Error(), "")

	return textA == textB
}
