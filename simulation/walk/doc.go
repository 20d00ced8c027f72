// Package walk holds the tests that walk schedules, each in a bubble of its own.
package walk
