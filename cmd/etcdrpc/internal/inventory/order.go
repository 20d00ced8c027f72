package inventory

import (
	"cmp"
	"strings"
)

// CompareNames orders names such as addresses, with numbers in them by value: 10.0.0.5 comes before 10.0.0.10.
func CompareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		m, n := digits(x), digits(y)
		if m == 0 || n == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		p, q := strings.TrimLeft(x[:m], "0"), strings.TrimLeft(y[:n], "0")
		if order := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); order != 0 {
			return order
		}
		x, y = x[m:], y[n:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// digits returns the number of digits that s begins with. It runs for each byte of each sorted name.
func digits(s string) int {
	for n := range len(s) {
		if s[n] < '0' || s[n] > '9' {
			return n
		}
	}
	return len(s)
}
