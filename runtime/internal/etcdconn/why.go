package etcdconn

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcderr"
)

// standing is what is known of the connection at the time of an error.
type standing struct {
	state     connectivity.State
	cause     error    // why it is down; nil: it is up, or the cause is not known
	user      string   // that etcd knows the client by; "": none, or that of its certificate
	endpoints []string // of the etcd client
}

// why returns what the error of a call to etcd does not say itself, nil if there is nothing to add: whom
// etcd refuses, why the connection is down, or that etcd is silent.
func (s standing) why(err error) error {
	if code, ok := etcderr.Answer(err); ok {
		if s.user != "" && (code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.InvalidArgument) {
			return fmt.Errorf("etcd user %q", s.user)
		}
		return nil
	}
	if s.cause == nil && !etcderr.TimedOut(err) {
		return nil
	}
	return s.silence()
}

// silence returns why etcd does not answer.
func (s standing) silence() error {
	switch {
	case s.cause != nil:
		return s.cause
	case s.state == connectivity.Ready:
		return fmt.Errorf("etcd %q does not answer, though the connection is up: it hangs, or has no leader", s.endpoints)
	}
	return fmt.Errorf("etcd %q does not answer: there is no connection to it", s.endpoints)
}

// down returns why there is no connection, nil if there is one or none was tried.
func (s standing) down() error {
	if s.state == connectivity.Ready || s.state == connectivity.Idle && s.cause == nil {
		return nil
	}
	return s.silence()
}
