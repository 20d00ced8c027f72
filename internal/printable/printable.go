// Package printable escapes text from etcd for a terminal, a log, a page or an
// error. Otherwise a writer of one key could forge lines, move the cursor, or
// reverse text.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with Go's escapes for all characters that do not print as
// themselves: control and format characters (line feeds, zero-width ones,
// bidirectional marks), white space except the plain space, invisible
// characters (fillers, variation selectors), private and unassigned code
// points, and bytes that are not UTF-8. Printable text is unchanged, including
// backslashes.
func Text(s string) string {
	escaped := func(r rune) bool { return !Prints(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, escaped) {
		return s
	}

	var b []byte
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b = fmt.Appendf(b, `\x%02x`, s[0])
		case Prints(r):
			b = append(b, s[:size]...)
		default:
			quoted := strconv.AppendQuoteRuneToASCII(nil, r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}

		s = s[size:]
	}

	return string(b)
}

// Short returns Text of the first max bytes of s and, if s is longer, its
// length.
func Short(s string, max int) string {
	if len(s) <= max {
		return Text(s)
	}

	cut := max
	for cut > max-utf8.UTFMax && cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}

	return fmt.Sprintf("%s... (%d bytes)", Text(s[:cut]), len(s))
}

// Prints reports whether a character is visible or the plain space.
func Prints(r rune) bool {
	const blankBraille = '\u2800'
	return unicode.IsPrint(r) &&
		r != blankBraille &&
		!unicode.In(r,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
