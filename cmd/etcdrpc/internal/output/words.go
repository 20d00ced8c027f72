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

// Seconds formats a number of seconds: "59s", "1h30m", and from two days on "364d 23h".
func Seconds(n int64) string {
	const day = 24 * time.Hour
	d := time.Duration(min(n, int64(math.MaxInt64/time.Second))) * time.Second
	if d < 2*day {
		text := d.String()
		for _, unit := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, unit) {
				text = text[:len(text)-2]
			}
		}
		return text
	}
	days := fmt.Sprintf("%dd", d/day)
	if hours := d % day / time.Hour; hours > 0 {
		return fmt.Sprintf("%s %dh", days, hours)
	}
	return days
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
