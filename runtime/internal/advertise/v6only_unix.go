//go:build unix

package advertise

import "syscall"

func socketV6Only(fd uintptr) bool {
	only, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY)
	return err == nil && only != 0
}
