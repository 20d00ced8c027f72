// Package rehearsal tries tools/release: on a small repository, and on a clone of this one, where the go command then fetches the release and
// runs the commands of README and docs.
package rehearsal
