//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// etcd is restored from a backup of before the drain, and somebody else puts a policy in force, which has the revision that the
// drain had.
func TestDrainFor_RestoredEtcd(t *testing.T) {
	etcd := etcdtest.Start(t)
	for _, name := range []string{"a", "b"} {
		putKey(t, etcd, "acme/user/"+name, "10.0.0."+map[string]string{"a": "1", "b": "2"}[name]+":1")
	}
	backup, err := etcd.Backup()
	if err != nil {
		t.Fatal(err)
	}
	drain := startFollower(newApp(), at(etcd, "drain", "acme/user", "a", "--for", "2s"))
	defer drain.stop()
	if err := drain.wait("Leave this"); err != nil {
		t.Fatal(err)
	}
	if err := etcd.RestoreBackup(backup); err != nil {
		t.Fatal(err)
	}
	const others = `{"loadBalancingConfig":[{"etcd_weighted":{}}],"methodConfig":[{"name":[{}],"timeout":"2s"}]}`
	if _, errs, code := executed(t, newApp(), at(etcd, "policy", "set", "acme/user", others)...); code != exitFine {
		t.Fatal(errs)
	}
	<-drain.code
	if got := liveConfigAt(t, etcd, "acme/user"); !strings.Contains(got, "etcd_weighted") {
		t.Errorf("what somebody else has put in force is gone: %q", got)
	}
}

// Etcd does not answer when the drain is ended by Ctrl-C, and does a little later.
func TestDrainFor_EtcdHangs(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
	drain := startFollower(newApp(), at(etcd, "drain", "acme/user", "a", "--for", "1h", "--command-timeout", "1s"))
	if err := drain.wait("Leave this"); err != nil {
		t.Fatal(err)
	}
	etcd.Member(0).Pause()
	drain.stop()
	err := drain.wait("until another Ctrl-C")
	etcd.Member(0).Resume()
	if code, live := ends(t, drain.code), liveConfigAt(t, etcd, "acme/user"); err != nil || code != exitFine || live != "" {
		t.Errorf("it ends with %d, and the live policy is %q: %v\n%s", code, live, err, drain.String())
	}
}

// Whoever reads the output has left before it is written.
func TestDrainFor_ReaderGone(t *testing.T) {
	etcd := etcdtest.Start(t)
	for n := range 2 {
		putKey(t, etcd, fmt.Sprint("acme/user/", n), fmt.Sprintf("10.0.0.%d:1", n))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	cmd, errs := exec.CommandContext(ctx, "etcdrpc", at(etcd, "drain", "acme/user", "0", "--for", "1h", "-o", "json")...), new(written)
	cmd.Stdout, cmd.Stderr = writer, errs
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitUnable || !strings.Contains(errs.String(), "broken pipe") {
		t.Errorf("it ended: %v: %s", err, errs)
	}
	if got := liveConfigAt(t, etcd, "acme/user"); got != "" {
		t.Errorf("it is drained: %s", got)
	}
}

// TestDrain_OthersAreFaster has others change the live config until some attempts to write it are over.
func TestDrain_OthersAreFaster(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
	drain := startFollower(newApp(), at(etcd, "drain", "acme/user", "a"))
	defer drain.stop()
	for etcd.Calls().Count(etcdtest.Put, "_grpc_config/") < 5 && len(drain.code) == 0 {
		putKey(t, etcd, "_grpc_config/acme/user", `{"loadBalancingConfig":[{"etcd":{}}]}`)
	}
	if code := ends(t, drain.code); code != exitFine || strings.Count(drain.String(), "It goes to ") != 1 {
		t.Errorf("it ends with %d and says %s", code, drain.String())
	}
}
