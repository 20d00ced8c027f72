//go:build !unix

package runtime

import "math"

// openFiles returns a large number, because this system has no limit of open
// files.
func openFiles() int {
	return math.MaxInt32
}
