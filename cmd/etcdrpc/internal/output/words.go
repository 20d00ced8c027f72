package output

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// MaxWhere bounds the keys of a finding.
const MaxWhere = 3

// FirstOf returns at most the first MaxWhere elements.
func FirstOf[T any](all []T) []T { return all[:min(len(all), MaxWhere)] }

// Quoted returns the first names, quoted, and the number of the others.
func Quoted(names []string) string {
	var all []string
	for _, name := range FirstOf(names) {
		all = append(all, fmt.Sprintf("%q", name))
	}
	if more := len(names) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}

// SomeOf returns at most ten names, separated by commas.
func SomeOf(names []string) string {
	const shown = 10
	if len(names) > shown {
		names = append(names[:shown:shown], "…")
	}
	return strings.Join(names, ", ")
}

// Seconds formats a number of seconds: "59s", "1h30m0s".
func Seconds(n int64) string {
	return (time.Duration(min(n, int64(math.MaxInt64/time.Second))) * time.Second).String()
}

// Counted returns a count with its noun: "1 entry", "2 entries".
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// CountedIs returns a count with its noun and verb: "1 entry has", "2 entries have".
func CountedIs(n int, what, is, are string) string {
	if n == 1 {
		return Counted(n, what) + " " + is
	}
	return Counted(n, what) + " " + are
}
