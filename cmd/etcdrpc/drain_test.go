//go:build unix

package main

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestDrain_For has what was drained for a time called again when the command is ended, or its terminal closed.
func TestDrain_For(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		var out written
		ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
		defer cancel()
		cmd := exec.CommandContext(ctx, "etcdrpc", at(etcd, "drain", "acme/user", "a", "--for", "1h")...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err := out.wait("or Ctrl-C")
		if live, getErr := etcd.Admin().Get(t.Context(), "_grpc_config/acme/user"); getErr != nil || len(live.Kvs) != 1 {
			t.Errorf("%v: it is not drained: %v", signal, getErr)
		}
		if err := errors.Join(err, cmd.Process.Signal(signal), cmd.Wait()); err != nil {
			t.Errorf("%v: %v\n%s", signal, err, out.String())
		}
		if live, err := etcd.Admin().Get(t.Context(), "_grpc_config/acme/user"); err != nil || len(live.Kvs) != 0 {
			t.Errorf("%v: it stays drained: %v", signal, err)
		}
	}
}
