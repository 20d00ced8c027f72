// Package servicekey defines the rules for a service's key, its authority, the TTL of its leases and the
// names of its hosts. The plugin checks them when code is generated, and the runtime when they are used.
package servicekey

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// These are the first segments of keys that do not belong to services.
const (
	Reserved      = "_grpc_config" // live service configs
	LeaderSegment = "_grpc_leader" // candidates for the leadership of services
)

// LeaderPrefix returns the prefix of the etcd keys of the candidates for a service key. No segment of a key is empty, so
// the double slash keeps the candidates of "acme/order/eu" out of the range of "acme/order".
func LeaderPrefix(key string) string { return LeaderSegment + "/" + key + "//" }

// Check returns an error if a key is invalid. The error is a predicate with the cure: "has a double slash: ...".
func Check(key string) error {
	if key == "" {
		return errors.New(`is empty: give it segments with a single slash between them, such as "acme/user"`)
	}
	if err := CheckText(key); err != nil {
		return err
	}
	return checkSegments(strings.TrimPrefix(key, "/"))
}

// CheckText rejects characters that are invisible or easily confused, in a key or in text that
// becomes a part of one. The error is a predicate, too.
func CheckText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			return fmt.Errorf("has white space (%U): leave it out", r)
		case !printable.Prints(r):
			return fmt.Errorf("has the control, format or other invisible character %U: leave it out", r)
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
			return errors.New("ends in a slash: leave it out, endpoints are kept behind one anyway")
		case segment == "":
			return errors.New("has a double slash: write one between two segments")
		case segment == "." || segment == "..":
			return fmt.Errorf("has the segment %q: a key is no file path, name it otherwise", segment)
		case segment == Reserved && i == 0:
			return fmt.Errorf("begins with the segment %q, which is reserved for live service configs: name it otherwise", Reserved)
		case segment == LeaderSegment && i == 0:
			return fmt.Errorf("begins with the segment %q, which is reserved for elections: name it otherwise", LeaderSegment)
		}
	}
	return nil
}
