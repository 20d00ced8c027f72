// Package printablejson makes JSON with text from etcd safe for a terminal or a
// page, as package printable does for other text.
package printablejson

import (
	"fmt"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Escape returns JSON text with JSON's escapes for characters that do not print
// as themselves. The value stays the same. Line feeds are not escaped: JSON
// strings cannot contain them, so they are white space.
func Escape(text []byte) []byte {
	escaped := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		valid := r != utf8.RuneError || size > 1

		switch {
		case valid && printable.Prints(r), r == '\n', r == '\t', r == '\r':
			escaped = append(escaped, text[:size]...)

		case r > 0xFFFF:
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`,
				0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)

		default: // encoding/json also reads a byte that is not UTF-8 as U+FFFD
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}

		text = text[size:]
	}

	return escaped
}
