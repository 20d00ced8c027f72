package supervise

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AdoptOrphans has orphans below this process become its children. Else they are left to a process that may not reap them,
// and a zombie cannot be told from a process that runs on.
func AdoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// reaps reports whether orphans become children of this process: it is the first of its PID namespace, as in a container,
// or a subreaper.
func reaps() bool {
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	return os.Getpid() == 1 || err == nil && subreaper != 0
}
