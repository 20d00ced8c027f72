//go:build !unix

package descriptors

// softLimit returns a large number, for this system has no such limit.
func softLimit() int { return unlimited }
