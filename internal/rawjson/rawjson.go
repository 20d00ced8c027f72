// Package rawjson walks JSON text without decoding it. It is fast enough for
// ten thousand values at once, and lets callers be strict: encoding/json
// accepts a field in any case, a repeated field, and null for every type.
package rawjson

import (
	"bytes"
	"encoding/json"
)

// Depth returns how deep text nests arrays and objects. It stops reading, and
// returns limit+1, where text nests deeper than limit. text need not be valid.
func Depth(text []byte, limit int) int {
	depth := 0
	deepest := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}

		case '{', '[':
			depth++
			deepest = max(deepest, depth)
			if deepest > limit {
				return deepest
			}

		case '}', ']':
			depth--
		}
	}

	return deepest
}

// most bounds the members of an object and the elements of an array that are
// read: each costs time, and others write the values.
const most = 1024

// Members calls yield for each of the first 1,024 members of an object until
// yield returns false. object must be valid. Names are unescaped; values are
// slices of object.
func Members(object []byte, yield func(name, value []byte) bool) {
	rest := next(SkipSpace(object)[1:])
	for count := 0; rest != nil && count < most; count++ {
		n := valueLen(rest)
		name := rest[1 : n-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(Text(rest[:n]))
		}

		rest = SkipSpace(SkipSpace(rest[n:])[1:]) // after the colon
		n = valueLen(rest)
		if !yield(name, rest[:n:n]) {
			return
		}

		rest = next(rest[n:])
	}
}

// Elements returns the first 1,024 elements of an array, which must be valid.
func Elements(array []byte) (all []json.RawMessage) {
	for rest := next(SkipSpace(array)[1:]); rest != nil && len(all) < most; {
		n := valueLen(rest)
		all = append(all, rest[:n:n])
		rest = next(rest[n:])
	}

	return all
}

// next returns rest from the next member or element on, nil if there is none.
func next(rest []byte) []byte {
	rest = SkipSpace(rest)
	switch rest[0] {
	case '}', ']':
		return nil
	case ',':
		return SkipSpace(rest[1:])
	}

	return rest
}

// Text returns the content of a JSON string, and any other JSON value
// unchanged. value must be valid or empty.
func Text(value []byte) string {
	if len(value) == 0 || value[0] != '"' {
		return string(value)
	}

	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}

	var s string
	_ = json.Unmarshal(value, &s) // value is valid

	return s
}

// SkipSpace returns text without leading white space.
func SkipSpace(text []byte) []byte {
	for len(text) > 0 &&
		(text[0] == ' ' || text[0] == '\t' || text[0] == '\r' || text[0] == '\n') {
		text = text[1:]
	}

	return text
}

// valueLen returns the length of the first value in b, which must be valid.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}

			if depth == 0 {
				return i + 1
			}

		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // a number or a word ends with the array or object that holds it
			}

			depth--
			if depth == 0 {
				return i + 1
			}

		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}

	return len(b)
}
