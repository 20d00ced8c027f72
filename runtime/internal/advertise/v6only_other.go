//go:build !unix && !windows

package advertise

// socketV6Only reports false, for this system does not tell.
func socketV6Only(uintptr) bool { return false }
