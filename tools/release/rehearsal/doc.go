// Package rehearsal releases a clone of this repository, serves the release as a module proxy does, and runs the commands
// of README and docs against it.
package rehearsal
