//go:build unix

package runtime

import (
	"math"
	"syscall"
)

// openFiles returns the process's soft limit of open file descriptors. Go
// raises it to the hard limit when a process starts.
func openFiles() int {
	var r syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	if err != nil || uint64(r.Cur) > math.MaxInt32 { //nolint:unconvert // signed on some systems
		return math.MaxInt32
	}

	return int(r.Cur)
}
