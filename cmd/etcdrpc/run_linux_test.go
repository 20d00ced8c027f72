package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// careless is etcdrpc below a process that orphans become children of, and that reaps none, as some first processes of a
// container.
func careless() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	cmd := exec.Command("etcdrpc", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	_ = cmd.Run() // an error is the exit code, too
	os.Exit(cmd.ProcessState.ExitCode())
}

func init() { commands["careless"] = careless }

// TestRun_Reaps has a command leave orphans behind, in its process group and outside.
func TestRun_Reaps(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s := runsAs(t, "careless", etcd, "--stop-timeout", "1m", "--",
		"-child", "sleep 60 >/dev/null 2>&1 & setsid sleep 60 >/dev/null 2>&1 & echo $!")
	orphan := s.found(`^child (\d+) <nil>$`)
	t.Cleanup(func() { _ = syscall.Kill(orphan, syscall.SIGKILL) })
	s.serves()
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, orphan)
	s.tell("exit 7")
	s.exits(7)
	s.entries(0)
}
