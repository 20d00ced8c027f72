//go:build !unix

package listener

// readable reports whether there may be something to read. The caller sets again once there is.
func readable(_ uintptr, again bool) bool { return again }
