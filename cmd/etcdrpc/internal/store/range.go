package store

import (
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// KeyRange is the keys from From to before End.
type KeyRange struct{ From, End string }

// PrefixRange returns the range of the keys that begin with prefix.
func PrefixRange(prefix string) KeyRange {
	if prefix == "" {
		return KeyRange{"\x00", "\x00"}
	}
	return KeyRange{prefix, clientv3.GetPrefixRangeEnd(prefix)}
}

// EntriesOf returns the range where reader finds the entries of a service.
func EntriesOf(reader endpoint.Reader, key string) KeyRange {
	from, end := reader.Range(key)
	return KeyRange{from, end}
}

// ConfigOf returns the range of the live config of a service.
func ConfigOf(key string) KeyRange {
	return KeyRange{inventory.ConfigPrefix + key, inventory.ConfigPrefix + key + "\x00"}
}
