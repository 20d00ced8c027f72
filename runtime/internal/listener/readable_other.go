//go:build !unix

package listener

// readable reports whether there may be something to read: the caller asks again once there is.
func readable(_ uintptr, again bool) bool { return again }
