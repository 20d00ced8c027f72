//go:build !unix

package descriptors

// Limit returns a large number, for this system has no limit.
func Limit() int { return unlimited }
