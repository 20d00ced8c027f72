// Package rehearsal releases a clone of this repository, has the go command fetch the release from there, and runs the commands
// of README and docs against it.
package rehearsal
