// Package candidate defines which keys in etcd are candidates for the
// leadership of a service, and their order.
package candidate

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// First is the candidate that precedes all others.
type First struct {
	Key     string // "" if unknown, or without candidates
	Created int64
}

// Precedes reports whether f precedes other: f was created earlier or, if one
// transaction created both, f has the lower key. Any candidate precedes the
// zero value. All readers of candidates use this order.
func (f First) Precedes(other First) bool {
	if f.Created != other.Created {
		return f.Created < other.Created || other == (First{})
	}

	return f.Key < other.Key
}

// Prefix returns the prefix of the etcd keys of the candidates for a service
// key. No segment of a key is empty, so the double slash keeps the candidates
// of "acme/order/eu" out of the range of "acme/order".
func Prefix(key string) string {
	return servicekey.LeaderSegment + "/" + key + "//"
}

// MaxInstance bounds the instance id of a candidate, in bytes.
const MaxInstance = 1 << 10

// InstanceOf returns the instance id of a candidate, or an error if the entry
// under the candidates' prefix is not a candidate. All readers of candidates
// use InstanceOf.
func InstanceOf(prefix string, entry *mvccpb.KeyValue) (string, error) {
	name := strings.TrimPrefix(string(entry.Key), prefix)
	n := len(entry.Value)
	switch {
	case name == "" || strings.Contains(name, "/"):
		return "", fmt.Errorf("invalid candidate name %.80q", name)
	case entry.Lease == 0:
		return "", errors.New("the candidate has no lease")

	case n == 0 ||
		n > MaxInstance ||
		!utf8.Valid(entry.Value) ||
		servicekey.CheckText(string(entry.Value)) != nil:
		return "", fmt.Errorf("invalid instance id (%d bytes)", n)
	}

	return string(entry.Value), nil
}
