package store

import (
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// KeyRange is the keys from From up to End, which does not belong to it.
type KeyRange struct{ From, End string }

// Everything is all keys.
var Everything = KeyRange{"\x00", "\x00"}

// PrefixRange is all keys that begin with prefix.
func PrefixRange(prefix string) KeyRange {
	if prefix == "" {
		return Everything
	}
	return KeyRange{prefix, clientv3.GetPrefixRangeEnd(prefix)}
}

// KeyOnly is one key.
func KeyOnly(key string) KeyRange { return KeyRange{key, key + "\x00"} }

// intersect is what r and o have in common.
func (r KeyRange) intersect(o KeyRange) (KeyRange, bool) {
	both := KeyRange{max(r.From, o.From), r.End}
	if r.End == "\x00" || o.End != "\x00" && o.End < r.End {
		both.End = o.End
	}
	return both, both.End == "\x00" || both.From < both.End
}

// Contains reports whether all of o is in r.
func (r KeyRange) Contains(o KeyRange) bool {
	return r.From <= o.From && (r.End == "\x00" || o.End != "\x00" && o.End <= r.End)
}

// String is a range as etcdctl's users know it: a key or a prefix where it is one.
func (r KeyRange) String() string {
	if r == KeyOnly(r.From) {
		return r.From
	}
	if PrefixRange(strings.Trim(r.From, "\x00")) == r {
		return strings.Trim(r.From, "\x00") + "*"
	}
	return fmt.Sprintf("[%s, %s)", r.From, strings.Trim(r.End, "\x00"))
}
