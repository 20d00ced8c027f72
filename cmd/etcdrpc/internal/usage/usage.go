// Package usage tells mistakes in the command line from everything else that may fail.
package usage

// Error is a mistake in the command line.
type Error struct{ error }

func (e Error) Unwrap() error { return e.error }

// Mistake makes an error one of the command line.
func Mistake(err error) error { return Error{err} }
