package output

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// MaxWhere bounds the keys that one finding names.
const MaxWhere = 3

// FirstOf returns the first MaxWhere of all.
func FirstOf[T any](all []T) []T { return all[:min(len(all), MaxWhere)] }

// Quoted returns the first few names as a list.
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

// SomeOf lists names, but not very many.
func SomeOf(names []string) string {
	const shown = 10
	if len(names) > shown {
		names = append(names[:shown:shown], "…")
	}
	return strings.Join(names, ", ")
}

// Seconds shows a time that etcd counts in whole seconds: "59s", "1h30m", and from two days on "364d 23h".
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

// Counted counts things: "1 entry", "2 entries".
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// CountedIs begins a sentence about counted things: "1 entry has", "2 entries have".
func CountedIs(n int, what, is, are string) string {
	if n == 1 {
		return Counted(n, what) + " " + is
	}
	return Counted(n, what) + " " + are
}
