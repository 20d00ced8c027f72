//go:build unix

package listener

import (
	"errors"
	"syscall"
)

// readable reports whether a read would return data or an error at once.
func readable(fd uintptr, _ bool) bool {
	for {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		if !errors.Is(err, syscall.EINTR) {
			return !errors.Is(err, syscall.EAGAIN)
		}
	}
}
