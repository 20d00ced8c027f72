//go:build !unix

package listener

// readable reports whether there may be something to read. The caller calls it again when there is.
func readable(_ uintptr, again bool) bool { return again }
