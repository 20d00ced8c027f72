package etcdcause

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// textOf returns the text of an error, "" for nil.
func textOf(err error) string {
	if err == nil {
		return ""
	}

	return err.Error()
}

func TestWhy(t *testing.T) {
	const (
		silent     = `etcd ["a:1" "b:1"] does not answer, though the connection is up: it hangs, has no leader, or allows too few streams`
		connecting = `etcd ["a:1" "b:1"] does not answer: there is no connection to it`
	)

	late := fmt.Errorf("list: %w", context.DeadlineExceeded)
	refused := errors.New("connection refused")
	for name, tt := range map[string]struct {
		state connectivity.State
		cause error
		user  string
		err   error
		want  string
	}{
		"down, and the cause is known": {connectivity.TransientFailure, refused, "u", late,
			"connection refused"},
		"another error while it is down": {connectivity.TransientFailure, refused, "",
			errors.New("x"), "connection refused"},
		"up, without an answer":        {connectivity.Ready, nil, "u", late, silent},
		"up, and out of time in etcd":  {connectivity.Ready, nil, "u", rpctypes.ErrTimeout, ""},
		"never up":                     {connectivity.Connecting, nil, "", late, connecting},
		"another error while it is up": {connectivity.Ready, nil, "u", errors.New("x"), ""},
		"canceled": {connectivity.Connecting, nil, "", context.Canceled,
			""},
		"denied to a user": {connectivity.Ready, nil, "u\n",
			rpctypes.ErrPermissionDenied, `etcd user "u\n"`},
		"a wrong password": {connectivity.Ready, nil, "u", rpctypes.ErrAuthFailed,
			`etcd user "u"`},
		"denied to an unknown user": {connectivity.Ready, nil, "",
			rpctypes.ErrPermissionDenied, ""},
		"an answer from a connection lost": {connectivity.TransientFailure, refused, "u",
			rpctypes.ErrPermissionDenied, `etcd user "u"`},
	} {
		s := ConnState{tt.state, tt.cause, tt.user, []string{"a:1", "b:1"}}
		if got := textOf(s.Why(tt.err)); got != tt.want {
			t.Errorf("%s: Why = %q, want %q", name, got, tt.want)
		}
	}
}

func TestDown(t *testing.T) {
	refused := errors.New("connection refused")
	for name, tt := range map[string]struct {
		state connectivity.State
		cause error
		want  string
	}{
		"up":           {connectivity.Ready, nil, ""},
		"up just now":  {connectivity.Ready, refused, ""},
		"not used yet": {connectivity.Idle, nil, ""},
		"lost":         {connectivity.Idle, refused, "connection refused"},
		"the first attempt": {connectivity.Connecting, nil,
			`etcd ["a:1"] does not answer: there is no connection to it`},
	} {
		got := textOf(ConnState{State: tt.state, Cause: tt.cause, Endpoints: []string{"a:1"}}.Down())
		if got != tt.want {
			t.Errorf("%s: Down = %q, want %q", name, got, tt.want)
		}
	}
}

func TestMet(t *testing.T) {
	const refused = `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:2379: connect: connection refused"`
	for name, tt := range map[string]struct {
		err   error
		state connectivity.State
		want  string
	}{
		"it fails": {
			status.Error(codes.Unavailable, "last connection error: "+refused),
			connectivity.TransientFailure, refused},
		"it is back": {
			status.Error(codes.Unavailable, "last connection error: "+refused), connectivity.Ready,
			""},
		"a call that was too late": {status.Error(codes.DeadlineExceeded, "x"),
			connectivity.TransientFailure, ""},
		"no error": {nil, connectivity.TransientFailure, ""},
	} {
		if got := textOf(Met(tt.err, tt.state)); got != tt.want {
			t.Errorf("%s: Met = %q, want %q", name, got, tt.want)
		}
	}
}
