//go:build !unix

package runtime

import "math"

// openFiles returns a large number, for this system has no limit.
func openFiles() int { return math.MaxInt32 }
