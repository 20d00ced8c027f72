package output

import (
	"strings"
)

// maxTable bounds the table of compare, in cells. Texts from etcd can have a hundred thousand lines.
const maxTable = 1 << 22

// Diff returns the line diff of two texts, with the prefixes "- ", "+ " and, for unchanged lines, two spaces. Between the
// common head and tail of large texts all lines count as changed.
func Diff(before, after string) string {
	a, b := Lines(before), Lines(after)
	var out strings.Builder
	write := func(mark string, lines []string) {
		for _, line := range lines {
			out.WriteString(mark + line + "\n")
		}
	}
	head := countEqual(len(a), len(b), func(i int) bool { return a[i] == b[i] })
	write("  ", a[:head])
	a, b = a[head:], b[head:]
	tail := countEqual(len(a), len(b), func(i int) bool { return a[len(a)-1-i] == b[len(b)-1-i] })
	end := a[len(a)-tail:]
	a, b = a[:len(a)-tail], b[:len(b)-tail]
	if (len(a)+1)*(len(b)+1) > maxTable {
		write("- ", a)
		write("+ ", b)
	} else {
		compare(a, b, write)
	}
	write("  ", end)
	return out.String()
}

// countEqual returns the number of leading indices for which equal holds, of lists of lengths a and b.
func countEqual(a, b int, equal func(i int) bool) int {
	n := 0
	for n < min(a, b) && equal(n) {
		n++
	}
	return n
}

// compare writes the diff of a and b.
func compare(a, b []string, write func(mark string, lines []string)) {
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			write("  ", a[i:i+1])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			write("- ", a[i:i+1])
			i++
		default:
			write("+ ", b[j:j+1])
			j++
		}
	}
}

// Lines returns the lines of text, without line feeds.
func Lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
