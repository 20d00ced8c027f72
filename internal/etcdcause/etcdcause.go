// Package etcdcause explains failed calls to etcd, in the words that runtime
// and the command etcdrpc share.
package etcdcause

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// ConnState is the state of the connection at the time of an error.
type ConnState struct {
	State connectivity.State

	// why the connection is down; nil while it is up, or if the cause is
	// unknown
	Cause error

	// the client's user in etcd; "" for none, or if a certificate names the
	// user
	User string

	Endpoints []string // of the etcd client
}

// Met extracts the last error of a failing connection from the error of a call
// that did not wait for the connection. It returns nil for any other error, or
// if the connection is no longer failing.
func Met(err error, state connectivity.State) error {
	if status.Code(err) != codes.Unavailable || state != connectivity.TransientFailure {
		return nil
	}

	return errors.New(strings.TrimPrefix(status.Convert(err).Message(),
		"last connection error: "))
}

// Latest returns the current error, or the previous error if the two differ
// only in addresses: otherwise each attempt would publish a different error.
func Latest(previous, current error) error {
	if etcderr.Same(previous, current) {
		return previous
	}

	return current
}

// Why returns what the error of a call to etcd does not say: which user is
// denied, why the connection is down, or that etcd does not answer. It returns
// nil if there is nothing to add.
func (s ConnState) Why(err error) error {
	if code, ok := etcderr.Answer(err); ok {
		if s.User != "" && (code == codes.PermissionDenied ||
			code == codes.Unauthenticated ||
			code == codes.InvalidArgument) {
			return fmt.Errorf("etcd user %q", s.User)
		}

		return nil
	}

	if s.Cause == nil && !etcderr.TimedOut(err) && s.State != connectivity.Shutdown {
		return nil
	}

	return s.unanswered()
}

var errClosed = errors.New("the etcd client was closed: close it after its users")

// unanswered returns why etcd does not answer.
func (s ConnState) unanswered() error {
	switch {
	case s.State == connectivity.Shutdown:
		return errClosed
	case s.Cause != nil:
		return s.Cause
	case s.State == connectivity.Ready:
		return fmt.Errorf("etcd %q does not answer, though the connection is up: it hangs, has no leader, or allows too few streams",
			s.Endpoints)
	}

	return fmt.Errorf("etcd %q does not answer: there is no connection to it",
		s.Endpoints)
}

// Down returns why the connection is down, nil if it is up or was never
// attempted.
func (s ConnState) Down() error {
	if s.State == connectivity.Ready || s.State == connectivity.Idle && s.Cause == nil {
		return nil
	}

	return s.unanswered()
}
