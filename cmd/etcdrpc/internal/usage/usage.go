// Package usage marks errors that are mistakes in how a command was called.
package usage

import "fmt"

// Error marks a mistake in how a command was called.
type Error struct{ error }

func (e Error) Unwrap() error {
	return e.error
}

// Mistake marks err as a mistake of the caller.
func Mistake(err error) error {
	return Error{err}
}

// Mistakef formats an error like [fmt.Errorf], and marks it like Mistake.
func Mistakef(format string, args ...any) error {
	return Mistake(fmt.Errorf(format, args...))
}
