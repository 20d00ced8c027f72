package survey

import (
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// ConfigPrefix is where the live service configs are.
const ConfigPrefix = endpoint.ReservedSegment + "/"

// Entry is one key of etcd.
type Entry struct {
	Key            string
	Value          []byte
	Lease          int64
	CreateRevision int64
	ModRevision    int64
}

// Name returns what the key ends in.
func (e Entry) Name() string { return LastSegment(e.Key) }

// LastSegment returns what follows the last slash of a key.
func LastSegment(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// InOrder returns entries that are known by their keys, sorted by these, as [All] takes them.
func InOrder(byKey map[string]Entry) []Entry {
	entries := make([]Entry, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		entries = append(entries, byKey[key])
	}
	return entries
}
