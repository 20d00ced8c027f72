// Package readme runs the README: its tests do what it says, word for word.
package readme
