//go:build !unix

package listener

// readable reports whether there may be something to read. The caller calls it
// again, with again set, when there is.
func readable(_ uintptr, again bool) bool {
	return again
}
