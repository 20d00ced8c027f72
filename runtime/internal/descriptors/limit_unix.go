//go:build unix

package descriptors

import "syscall"

func softLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > unlimited { //nolint:unconvert // signed on some systems
		return unlimited
	}
	return int(r.Cur)
}
