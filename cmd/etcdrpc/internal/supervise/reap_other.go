//go:build unix && !linux

package supervise

import "os"

// AdoptOrphans changes nothing on this system, where orphans become children of the first process.
func AdoptOrphans() {}

// reaps reports whether orphans become children of this process.
func reaps() bool { return os.Getpid() == 1 }
