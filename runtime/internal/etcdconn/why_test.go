package etcdconn

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/connectivity"
)

func TestWhy(t *testing.T) {
	const (
		silent     = `etcd ["a:1" "b:1"] does not answer, though the connection is up: it hangs, or has no leader`
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
		"down, and the cause is known":     {connectivity.TransientFailure, refused, "u", late, "connection refused"},
		"tried again since":                {connectivity.Connecting, refused, "", late, "connection refused"},
		"another error while it is down":   {connectivity.TransientFailure, refused, "", errors.New("x"), "connection refused"},
		"up, and silent":                   {connectivity.Ready, nil, "u", late, silent},
		"up, and out of time in etcd":      {connectivity.Ready, nil, "u", rpctypes.ErrTimeout, ""},
		"never up":                         {connectivity.Connecting, nil, "", late, connecting},
		"another error while it is up":     {connectivity.Ready, nil, "u", errors.New("x"), ""},
		"canceled":                         {connectivity.Connecting, nil, "", context.Canceled, ""},
		"denied to a user":                 {connectivity.Ready, nil, "u\n", rpctypes.ErrPermissionDenied, `etcd user "u\n"`},
		"denied to a user, wrapped":        {connectivity.Ready, nil, "u", fmt.Errorf("put: %w", rpctypes.ErrPermissionDenied), `etcd user "u"`},
		"a wrong password":                 {connectivity.Ready, nil, "u", rpctypes.ErrAuthFailed, `etcd user "u"`},
		"denied to nobody that is known":   {connectivity.Ready, nil, "", rpctypes.ErrPermissionDenied, ""},
		"an answer that is no refusal":     {connectivity.Ready, nil, "u", rpctypes.ErrNoLeader, ""},
		"an answer from a connection lost": {connectivity.TransientFailure, refused, "u", rpctypes.ErrPermissionDenied, `etcd user "u"`},
	} {
		s := standing{tt.state, tt.cause, tt.user, []string{"a:1", "b:1"}}
		got := ""
		if err := s.why(tt.err); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
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
		"up":                  {connectivity.Ready, nil, ""},
		"up just now":         {connectivity.Ready, refused, ""},
		"not used yet":        {connectivity.Idle, nil, ""},
		"lost":                {connectivity.Idle, refused, "connection refused"},
		"failed":              {connectivity.TransientFailure, refused, "connection refused"},
		"tried for the first": {connectivity.Connecting, nil, `etcd ["a:1"] does not answer: there is no connection to it`},
	} {
		got := ""
		if err := (standing{state: tt.state, cause: tt.cause, endpoints: []string{"a:1"}}).down(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
