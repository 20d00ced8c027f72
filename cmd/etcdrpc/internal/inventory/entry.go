package inventory

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

// ConfigPrefix is the prefix of the keys of live service configs.
const ConfigPrefix = endpoint.ReservedSegment + "/"

// Entry is one key of etcd.
type Entry struct {
	Key            string
	Value          []byte // shortened to its head if no client reads the value
	Size           int    // of the whole value, in bytes, if Value is only its head; 0: Value is complete
	Lease          int64
	CreateRevision int64
	ModRevision    int64
}

// Shortened returns the entry with only the head of a value that no client reads. Such a value exceeds the size limit, or is
// neither a JSON object nor as short as an address.
func (e Entry) Shortened() Entry {
	limit := maxHead
	if len(e.Value) <= e.sizeLimit() {
		if e.isConfig() || bytes.HasPrefix(rawjson.SkipSpace(e.Value), []byte("{")) {
			return e
		}
		limit = maxPlainHead
	}
	if len(e.Value) > limit {
		e.Size, e.Value = len(e.Value), bytes.Clone(e.Value[:limit])
	}
	return e
}

const (
	// maxHead bounds the bytes kept of a value that exceeds the size limit.
	maxHead = 8 << 10
	// maxPlainHead bounds the bytes kept of a value that is not a JSON object. Addresses are shorter.
	maxPlainHead = 1 << 10
)

// sizeLimit returns the size of the largest value that clients read at the key, in bytes.
func (e Entry) sizeLimit() int {
	if e.isConfig() {
		return serviceconfig.MaxSize
	}
	return endpoint.MaxValue
}

// isConfig reports whether the key is that of a live config, also in a namespace below.
func (e Entry) isConfig() bool { return strings.Contains("/"+e.Key, "/"+ConfigPrefix) }

// checkSize returns an error if the value is larger than clients read.
func (e Entry) checkSize() error {
	if e.Size <= e.sizeLimit() {
		return nil
	}
	return fmt.Errorf("%d bytes, more than %d", e.Size, e.sizeLimit())
}

// Name returns the part of the key after its last slash.
func (e Entry) Name() string { return e.Key[strings.LastIndexByte(e.Key, '/')+1:] }

// namesLease reports whether the key ends in the id of the entry's lease.
func (e Entry) namesLease() bool {
	return e.Lease != 0 && strings.HasSuffix(e.Key, strconv.FormatInt(e.Lease, 10))
}

// InOrder returns the entries of a map sorted by key, as [All] requires.
func InOrder(byKey map[string]Entry) []Entry {
	entries := make([]Entry, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		entries = append(entries, byKey[key])
	}
	return entries
}
