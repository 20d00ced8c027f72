package store

import (
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// KeyRange is the keys from From up to End, which does not belong to it.
type KeyRange struct{ From, End string }

// Everything is all keys.
var Everything = KeyRange{"\x00", "\x00"}

// PrefixRange returns all keys that begin with prefix.
func PrefixRange(prefix string) KeyRange {
	if prefix == "" {
		return Everything
	}
	return KeyRange{prefix, clientv3.GetPrefixRangeEnd(prefix)}
}

// KeyOnly returns the range of one key.
func KeyOnly(key string) KeyRange { return KeyRange{key, key + "\x00"} }

// EntriesOf returns what a reader lists to find the entries of a service.
func EntriesOf(reader endpoint.Reader, key string) KeyRange {
	from, end := reader.Range(key)
	return KeyRange{from, end}
}

func (r KeyRange) intersect(o KeyRange) (KeyRange, bool) {
	both := KeyRange{max(r.From, o.From), r.End}
	if r.End == "\x00" || o.End != "\x00" && o.End < r.End {
		both.End = o.End
	}
	return both, both.End == "\x00" || both.From < both.End
}

// String returns a range as etcdctl's users know it: a key or a prefix where it is one.
func (r KeyRange) String() string {
	if r == KeyOnly(r.From) {
		return r.From
	}
	if PrefixRange(strings.Trim(r.From, "\x00")) == r {
		return strings.Trim(r.From, "\x00") + "*"
	}
	return fmt.Sprintf("[%s, %s)", r.From, strings.Trim(r.End, "\x00"))
}

// Within reports whether one of the parts has all of a range.
func Within(parts []KeyRange, r KeyRange) bool {
	return slices.ContainsFunc(parts, func(part KeyRange) bool {
		return part.From <= r.From && (part.End == "\x00" || r.End != "\x00" && r.End <= part.End)
	})
}

// disjoint returns the same keys as ranges that do not overlap, sorted.
func disjoint(ranges []KeyRange) (all []KeyRange) {
	ranges = slices.SortedFunc(slices.Values(ranges), func(a, b KeyRange) int { return strings.Compare(a.From, b.From) })
	for _, r := range ranges {
		if n := len(all); n > 0 && (all[n-1].End == "\x00" || r.From < all[n-1].End) {
			if all[n-1].End != "\x00" && (r.End == "\x00" || r.End > all[n-1].End) {
				all[n-1].End = r.End
			}
			continue
		}
		all = append(all, r)
	}
	return all
}
