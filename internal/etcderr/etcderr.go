// Package etcderr reads the errors of the etcd client, whose own type has a code but no gRPC status.
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

// Code returns the gRPC code of an error, as package status does for others.
func Code(err error) codes.Code {
	if code, ok := Answer(err); ok {
		return code
	}
	return status.Code(err)
}

// Answer returns the code of an error that is etcd's own answer. ok is false for any other error.
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

// deniedWatch is the text by which etcd denies a watch. The etcd client passes it on as a text alone.
var deniedWatch = rpctypes.ErrGRPCPermissionDenied.Error()

// Refused reports whether an error says that etcd would fail a read in the same way again, until
// someone changes something.
func Refused(err error) bool {
	code := Code(err)
	return code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.InvalidArgument
}

// TimedOut reports whether an error says that the time for a call was over.
func TimedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || Code(err) == codes.DeadlineExceeded
}

// With adds to an error why it came to be, unless it says so itself. why may be nil.
func With(err, why error) error {
	if why == nil || strings.Contains(err.Error(), why.Error()) {
		return err
	}
	return fmt.Errorf("%w: %w", err, why)
}

// addresses matches what differs between the error texts of two tries: the port on this side, and the
// address of the member that was tried.
var addresses = regexp.MustCompile(`(\[[0-9a-fA-F:.%\w]*\]|[\w.-]+):\d+(->)?`)

// Same reports whether two errors say the same, whatever addresses they name.
func Same(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	textA, textB := a.Error(), b.Error()
	return textA == textB || addresses.ReplaceAllString(textA, "") == addresses.ReplaceAllString(textB, "")
}
