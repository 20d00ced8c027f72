// Package printable escapes text from etcd for a terminal, a log, a page or an error. Otherwise a
// writer of one key could forge lines, move the cursor, or reverse text.
package printable

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with Go's escapes for all characters that do not print as themselves: control and format characters (line feeds,
// zero-width ones, bidirectional marks), white space except the plain space, invisible characters (fillers, variation selectors),
// private and unassigned code points, and bytes that are not UTF-8. Printable text is unchanged, including backslashes.
func Text(s string) string {
	n := plain(s)
	if n == len(s) {
		return s
	}
	b := []byte(s[:n])
	for s = s[n:]; len(s) > 0; {
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

// Short returns Text of the first max bytes of s and, if s is longer, its length.
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

// JSON returns JSON text with JSON's escapes for characters that do not print as themselves. The value stays
// the same. Line feeds are not escaped: JSON strings cannot contain them, so they are white space.
func JSON(text []byte) []byte {
	s := string(text)
	var b strings.Builder
	for n := plain(s); len(s) > 0; n = plain(s) {
		b.WriteString(s[:n])
		if s = s[n:]; s == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		default: // encoding/json also reads a byte that is not UTF-8 as U+FFFD
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[size:]
	}
	return []byte(b.String())
}

// Prints reports whether a character is visible or the plain space.
func Prints(r rune) bool {
	const blankBraille = '\u2800'
	return unicode.IsPrint(r) && r != blankBraille && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// plain returns the length of the prefix of s that prints as itself.
func plain(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
		if !Prints(r) {
			return i
		}
	}
	return len(s)
}
