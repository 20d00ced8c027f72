//go:build !unix

package listener

// readable reports whether there may be data. It cannot look, so it returns
// false at first. RawConn.Read calls it again, with again set, when there is
// data.
func readable(_ uintptr, again bool) bool {
	return again
}
