package election

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// MaxInstance bounds the instance id of a candidate, in bytes.
const MaxInstance = 1 << 10

// InstanceOf returns the instance id of a candidate, or why the entry under the prefix of the candidates is none. Both
// the watch of the candidates and the question who is first go by it.
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

// earliest returns which precedes all others: a candidate, or one of the candidates among entries under a prefix.
func earliest(first First, prefix string, entries []*mvccpb.KeyValue) First {
	for _, entry := range entries {
		one := First{string(entry.Key), entry.CreateRevision}
		if _, err := InstanceOf(prefix, entry); err == nil && one.Precedes(first) {
			first = one
		}
	}
	return first
}
