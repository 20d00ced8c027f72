// Package candidate says which keys in etcd are candidates for the leadership of a service, and in which order they are.
package candidate

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// First is a candidate: of all, the one that precedes the others.
type First struct {
	Key     string // "": there is none, or nothing is known
	Created int64
}

// Precedes reports whether a candidate precedes another one: it was created earlier or, where one transaction created
// both, has the lower key. Any candidate precedes the zero value. All who
// read candidates go by it.
func (f First) Precedes(other First) bool {
	if f.Created != other.Created {
		return f.Created < other.Created || other == (First{})
	}
	return f.Key < other.Key
}

// MaxInstance bounds the instance id of a candidate, in bytes.
const MaxInstance = 1 << 10

// InstanceOf returns the instance id of a candidate, or why the entry under the prefix of the candidates is none. All
// who read candidates go by it.
func InstanceOf(prefix string, entry *mvccpb.KeyValue) (string, error) {
	name, n := strings.TrimPrefix(string(entry.Key), prefix), len(entry.Value)
	switch {
	case name == "" || strings.Contains(name, "/"):
		return "", fmt.Errorf("%.80q is no candidate's name", name)
	case entry.Lease == 0:
		return "", errors.New("a candidate without a lease")
	case n == 0 || n > MaxInstance || !utf8.Valid(entry.Value) || servicekey.CheckText(string(entry.Value)) != nil:
		return "", fmt.Errorf("the value, of %d bytes, is no instance id", n)
	}
	return string(entry.Value), nil
}
