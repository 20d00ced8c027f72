// Package usage marks errors of the command line.
package usage

// Error is an error of the command line.
type Error struct{ error }

func (e Error) Unwrap() error { return e.error }

// Mistake marks err as an error of the command line.
func Mistake(err error) error { return Error{err} }
