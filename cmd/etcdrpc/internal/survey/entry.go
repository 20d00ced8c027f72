package survey

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// ConfigPrefix is where the live service configs are.
const ConfigPrefix = endpoint.ReservedSegment + "/"

// Entry is one key of etcd.
type Entry struct {
	Key            string
	Value          []byte // the head of one that no client reads
	Size           int    // of the whole value, in bytes, where Value is its head; 0: it is whole
	Lease          int64
	CreateRevision int64
	ModRevision    int64
}

// Shortened returns the entry with the head of a value that no client reads: one that is too large or, where many other
// programs' values may be, one that is neither an object nor as short as an address.
func (e Entry) Shortened() Entry {
	most := maxHead
	if len(e.Value) <= e.mostRead() {
		if e.isConfig() || bytes.HasPrefix(rawjson.SkipSpace(e.Value), []byte("{")) {
			return e
		}
		most = maxPlain
	}
	if len(e.Value) > most {
		e.Size, e.Value = len(e.Value), bytes.Clone(e.Value[:most])
	}
	return e
}

const (
	// maxHead is how much is kept of a value that is larger than clients read, in bytes.
	maxHead = 8 << 10
	// maxPlain is how much is kept of one that is no object. No address is as long.
	maxPlain = 1 << 10
)

// mostRead is the size of the largest value that clients read at the key.
func (e Entry) mostRead() int {
	if e.isConfig() {
		return serviceconfig.MaxSize
	}
	return endpoint.MaxValue
}

// isConfig reports whether the key is that of a live config, be it in a namespace below what is looked at.
func (e Entry) isConfig() bool { return strings.Contains("/"+e.Key, "/"+ConfigPrefix) }

// tooLarge says that the value is larger than clients read; nil: it is not.
func (e Entry) tooLarge() error {
	if e.Size <= e.mostRead() {
		return nil
	}
	return fmt.Errorf("%d bytes, more than %d", e.Size, e.mostRead())
}

// Name returns what the key ends in.
func (e Entry) Name() string { return LastSegment(e.Key) }

// namesLease reports whether the key ends in the id of the lease.
func (e Entry) namesLease() bool {
	return e.Lease != 0 && strings.HasSuffix(e.Key, strconv.FormatInt(e.Lease, 10))
}

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
