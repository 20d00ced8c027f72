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
	if err := nameFault(prefix, entry); err != nil {
		return "", err
	}
	if n := len(entry.Value); n == 0 || n > MaxInstance || !utf8.Valid(entry.Value) || servicekey.CheckText(string(entry.Value)) != nil {
		return "", fmt.Errorf("the value, of %d bytes, is no instance id", n)
	}
	return string(entry.Value), nil
}

// nameFault returns why an entry is no candidate, whatever its value; nil: it may be one.
func nameFault(prefix string, entry *mvccpb.KeyValue) error {
	name := strings.TrimPrefix(string(entry.Key), prefix)
	if name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%.80q is no candidate's name", name)
	}
	if entry.Lease == 0 {
		return errors.New("a candidate without a lease")
	}
	return nil
}
