// Package servicekey defines the rules for a service's key, its authority, the
// TTL of its leases and the names of its hosts. The plugin checks them when
// code is generated, and the runtime when they are used.
package servicekey

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// These are the first segments of keys that do not belong to services.
const (
	Reserved      = "_grpc_config" // live service configs
	LeaderSegment = "_grpc_leader" // candidates for the leadership of services
)

// Check returns an error if a key is invalid. The error continues a sentence
// that begins with the key: "has a double slash: ...".
func Check(key string) error {
	if key == "" {
		return errors.New(`is empty: give it segments with a single slash between them, such as "acme/user"`)
	}

	if err := CheckText(key); err != nil {
		return err
	}

	return checkSegments(strings.TrimPrefix(key, "/"))
}

// CheckText rejects characters that are invisible or easily confused, in a key
// or in text that becomes a part of a key. Its errors are like those of Check.
func CheckText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("is not valid UTF-8")
	}

	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			return fmt.Errorf("has white space (%U): leave it out", r)
		case !printable.Prints(r):
			return fmt.Errorf(
				"has the control, format or other invisible character %U: leave it out",
				r)
		}
	}

	return nil
}

// checkSegments checks a key without its one leading slash.
func checkSegments(key string) error {
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		switch {
		case segment == "" && len(segments) == 1:
			return errors.New("is a slash alone: name at least one segment after it")
		case segment == "" && i == len(segments)-1:
			return errors.New(
				"ends in a slash: leave it out, endpoints are kept behind one anyway")
		case segment == "":
			return errors.New("has a double slash: write one between two segments")
		case segment == "." || segment == "..":
			return fmt.Errorf(
				"has the segment %q: a key is not a file path, choose another name",
				segment)
		case segment == Reserved && i == 0:
			return fmt.Errorf("begins with the segment %q, which is reserved for live service configs: choose another name", Reserved)
		case segment == LeaderSegment && i == 0:
			return fmt.Errorf("begins with the segment %q, which is reserved for elections: choose another name",
				LeaderSegment)
		}
	}

	return nil
}

// These bound a lease's TTL. No caller should find a server that has been dead
// for a day.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// ValidTTL reports whether a lease may have the TTL, which etcd counts in whole
// seconds.
func ValidTTL(ttl time.Duration) bool {
	return minTTL <= ttl && ttl <= maxTTL && ttl%time.Second == 0
}

// Overlap is the reason why the entries of two service keys cannot be
// distinguished in etcd. One key, the outer key, is a prefix of the other, the
// inner key.
type Overlap int

// These are the ways in which two keys overlap.
const (
	// NoOverlap: the entries differ, as with "order" and "order-admin", or
	// "order" and "order2" in most layouts.
	NoOverlap Overlap = iota

	// Nested: "a/b" lies under "a", so readers of "a" would see the entries of
	// "a/b".
	Nested

	// Continued: "order2" is "order" and a digit. In a layout whose etcd keys
	// are the service key and a lease id, such as "order27", entries of
	// "order2" look like entries of "order".
	Continued
)

// OverlapOf returns how the key inner overlaps with outer. suffixed means that
// entries of outer end in a lease id.
func OverlapOf(outer, inner string, suffixed bool) Overlap {
	rest, ok := strings.CutPrefix(inner, outer)
	switch {
	case !ok || rest == "":
		return NoOverlap
	case rest[0] == '/':
		return Nested
	case suffixed && '0' <= rest[0] && rest[0] <= '9':
		return Continued
	}

	return NoOverlap
}
