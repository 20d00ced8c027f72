package output

import "strings"

// Diff returns the line diff of two texts, with the prefixes "- ", "+ " and, for unchanged lines, two spaces. Between the
// common head and tail all lines count as changed.
func Diff(before, after string) []string {
	a, b := Lines(before), Lines(after)
	head := countEqual(len(a), len(b), func(i int) bool { return a[i] == b[i] })
	tail := countEqual(len(a)-head, len(b)-head, func(i int) bool { return a[len(a)-1-i] == b[len(b)-1-i] })
	var out []string
	add := func(mark string, lines []string) {
		for _, line := range lines {
			out = append(out, mark+line)
		}
	}
	add("  ", a[:head])
	add("- ", a[head:len(a)-tail])
	add("+ ", b[head:len(b)-tail])
	add("  ", a[len(a)-tail:])
	return out
}

// countEqual returns the number of leading indices for which equal holds, of lists of lengths a and b.
func countEqual(a, b int, equal func(i int) bool) int {
	n := 0
	for n < min(a, b) && equal(n) {
		n++
	}
	return n
}

// Lines returns the lines of text, without line feeds.
func Lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
