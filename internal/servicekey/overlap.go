package servicekey

import "strings"

// Overlap is the reason why the entries of two service keys, the outer one a prefix of the inner, cannot be distinguished in etcd.
type Overlap int

// These are the ways in which two keys overlap.
const (
	// NoOverlap: the entries differ, as with "order" and "order-admin", or "order" and "order2" in most layouts.
	NoOverlap Overlap = iota
	// Nested: "a/b" lies under "a", so readers of "a" would see the entries of "a/b".
	Nested
	// Continued: "order2" continues "order" with a digit. If entries of "order" end in a lease id, with
	// no slash before it, entries of "order2" look like them.
	Continued
)

// overlapBy returns how a key overlaps with its prefix before the byte next.
func overlapBy(next byte) Overlap {
	switch {
	case next == '/':
		return Nested
	case '0' <= next && next <= '9':
		return Continued
	default:
		return NoOverlap
	}
}

// OverlapOf returns how the key inner overlaps with outer. suffixed means that entries of outer end in a lease id.
func OverlapOf(outer, inner string, suffixed bool) Overlap {
	rest, ok := strings.CutPrefix(inner, outer)
	if !ok || rest == "" {
		return NoOverlap
	}
	if how := overlapBy(rest[0]); how == Nested || suffixed {
		return how
	}
	return NoOverlap
}

// Outer returns the longest of the wanted keys that key overlaps with in the given way, "" if there is
// none.
func Outer(key string, how Overlap, wanted func(key string) bool) string {
	for i := len(key) - 1; i > 0; i-- {
		if overlapBy(key[i]) == how && wanted(key[:i]) {
			return key[:i]
		}
	}
	return ""
}
