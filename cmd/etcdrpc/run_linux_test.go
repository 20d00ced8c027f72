package main

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// subreaper is etcdrpc as the process that orphans become children of, as the first process of a container is.
func subreaper() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	main()
}

func init() { commands["subreaper"] = subreaper }

// TestRun_Reaps has a command leave orphans behind, in its process group and outside.
func TestRun_Reaps(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s := runsAs(t, "subreaper", etcd, "--", "-child", "setsid sleep 60 >/dev/null 2>&1 & echo $!")
	orphan := s.found(`^child (\d+) <nil>$`)
	t.Cleanup(func() { _ = syscall.Kill(orphan, syscall.SIGKILL) })
	s.serves()
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, orphan)
	s.signal(syscall.SIGTERM)
	s.says(`^signal terminated`)
	s.exits(7)
	s.entries(0)
}
