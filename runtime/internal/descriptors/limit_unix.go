//go:build unix

package descriptors

import "syscall"

// Limit returns how many file descriptors the process may have open: the soft limit, which Go raises to the hard one when a
// process starts.
func Limit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > unlimited { //nolint:unconvert // signed on some systems
		return unlimited
	}
	return int(r.Cur)
}
