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
	for _, tt := range []struct {
		err      error
		code     codes.Code
		answered bool
	}{
		{nil, codes.OK, false},
		{rpctypes.ErrPermissionDenied, codes.PermissionDenied, true},
		{fmt.Errorf("list: %w", rpctypes.ErrLeaseNotFound), codes.NotFound, true},
		{status.Error(codes.Unauthenticated, "x"), codes.Unauthenticated, false},
		{fmt.Errorf("list: %w", status.Error(codes.InvalidArgument, "x")), codes.InvalidArgument, false},
		{context.DeadlineExceeded, codes.Unknown, false},
		{errors.New("x"), codes.Unknown, false},
	} {
		if code := Code(tt.err); code != tt.code {
			t.Errorf("Code(%v) = %v, want %v", tt.err, code, tt.code)
		}
		if _, answered := Answer(tt.err); answered != tt.answered {
			t.Errorf("Answer(%v) says %v, want %v", tt.err, answered, tt.answered)
		}
	}
}
