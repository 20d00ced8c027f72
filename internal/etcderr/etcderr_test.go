package etcderr

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCode(t *testing.T) {
	denied := rpctypes.Error(errors.New(rpctypes.ErrGRPCPermissionDenied.Error()))
	wrap := func(err error) error { return fmt.Errorf("list: %w", err) }
	malformed := wrap(status.Error(codes.InvalidArgument, "x"))
	late := wrap(status.Error(codes.DeadlineExceeded, "x"))
	lateInEtcd := status.Error(codes.Unknown, "context deadline exceeded")

	for _, tt := range []struct {
		err      error
		code     codes.Code
		answered bool
		refused  bool
		timedOut bool
	}{
		{nil, codes.OK, false, false, false},
		{rpctypes.ErrPermissionDenied, codes.PermissionDenied, true, true, false},
		{denied, codes.PermissionDenied, true, true, false}, // of a watch
		{wrap(rpctypes.ErrLeaseNotFound), codes.NotFound, true, false, false},
		{status.Error(codes.Unauthenticated, "x"), codes.Unauthenticated, false, true, false},
		{malformed, codes.InvalidArgument, false, true, false},
		{context.DeadlineExceeded, codes.Unknown, false, false, true},
		{late, codes.DeadlineExceeded, false, false, true},
		{lateInEtcd, codes.Unknown, false, false, true},
		{errors.New("x"), codes.Unknown, false, false, false},
	} {
		if code := Code(tt.err); code != tt.code {
			t.Errorf("Code(%v) = %v, want %v", tt.err, code, tt.code)
		}

		if _, answered := Answer(tt.err); answered != tt.answered {
			t.Errorf("Answer(%v): ok = %v, want %v", tt.err, answered, tt.answered)
		}

		if refused := Refused(tt.err); refused != tt.refused {
			t.Errorf("Refused(%v) = %v, want %v", tt.err, refused, tt.refused)
		}

		if timedOut := TimedOut(tt.err); timedOut != tt.timedOut {
			t.Errorf("TimedOut(%v) = %v, want %v", tt.err, timedOut, tt.timedOut)
		}
	}
}

func TestWith(t *testing.T) {
	late := fmt.Errorf("list: %w", context.DeadlineExceeded)
	refused := errors.New("connection refused")

	if got := With(late, nil); got.Error() != late.Error() {
		t.Errorf("With(%v, nil) = %v, want the error alone", late, got)
	}

	got := With(late, refused)
	both := errors.Is(got, late) && errors.Is(got, refused)

	if !both || got.Error() != "list: context deadline exceeded: connection refused" {
		t.Errorf("With(%v, %v) = %v, want both", late, refused, got)
	}

	if again := With(got, refused); again.Error() != got.Error() {
		t.Errorf("With(%v, %v) = %v, want the cause once", got, refused, again)
	}
}

func TestSame(t *testing.T) {
	const refused = `connection error: desc = "transport: Error while dialing: dial tcp %s: connect: connection refused"`

	for _, tt := range []struct {
		a, b error
		same bool
	}{
		{nil, nil, true},
		{nil, errors.New("x"), false},
		{errors.New("x"), nil, false},
		{errors.New("x"), errors.New("x"), true},
		{errors.New("x"), errors.New("y"), false},
		{fmt.Errorf(refused, "10.0.0.1:2379"), fmt.Errorf(refused, "[fd00::1]:2379"), true},
		{fmt.Errorf(refused, "etcd-0.etcd.svc:2379"),
			fmt.Errorf(refused, "etcd-1.etcd.svc:2379"), true},
		{errors.New("read tcp 10.0.0.9:41234->10.0.0.1:2379: EOF"),
			errors.New("read tcp 10.0.0.9:41235->10.0.0.1:2379: EOF"), true},
		{errors.New("read tcp 10.0.0.9:41234->10.0.0.1:2379: EOF"),
			errors.New("dial tcp 10.0.0.1:2379: EOF"), false},
		{errors.New("current time 2026-01-02T03:04:05Z is after"),
			errors.New("current time 2026-01-02T03:04:06Z is after"), true},
		{errors.New("the watch did not answer for 8s"),
			errors.New("the watch did not answer for 9s"), false},
	} {
		if got := Same(tt.a, tt.b); got != tt.same {
			t.Errorf("Same(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}
