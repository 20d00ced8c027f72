//go:build !unix

package listener

// readable reports whether there may be something to read: it is asked again when there is.
func readable(_ uintptr, again bool) bool { return again }
