package inventory

import (
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// OwnerOf returns the key of the service of an entry. That is the key without the lease id at its end, if it is the entry's own
// lease and no mark such as "-" precedes it; else the part before the last slash.
func OwnerOf(e Entry) string {
	slash := max(strings.LastIndexByte(e.Key, '/'), 0)
	json := strings.HasPrefix(strings.TrimSpace(string(e.Value)), "{")
	if e.Lease != 0 && !json {
		marks := "/"
		if slash > 0 {
			marks = "/-_.:@"
		}
		stem, ok := strings.CutSuffix(e.Key, strconv.FormatInt(e.Lease, 10))
		if ok && stem != "" && !strings.ContainsAny(stem[len(stem)-1:], marks) {
			return stem
		}
	}
	return e.Key[:slash]
}

// Owners returns a function that returns the service key of an entry: [OwnerOf] or, for a stray, the longest service key that
// has an entry in the lease suffix layout.
func Owners(entries []Entry) func(e Entry) string {
	suffixed := make(map[string]bool)
	for _, e := range entries {
		key := OwnerOf(e)
		if key+strconv.FormatInt(e.Lease, 10) == e.Key && layoutOf(key, e) == endpoint.LeaseSuffix {
			suffixed[key] = true
		}
	}
	return func(e Entry) string {
		if stem, ok := StrayStem(e); ok {
			for n := len(e.Key) - LeaseDigits; n >= max(len(stem), len(e.Key)-maxLeaseDigits); n-- {
				if suffixed[e.Key[:n]] {
					return e.Key[:n]
				}
			}
		}
		return OwnerOf(e)
	}
}

// LeaseDigits is the minimum length of a decimal lease id: etcd's ids are nearly random 63-bit numbers.
const LeaseDigits = 15

// maxLeaseDigits is the maximum length of a decimal lease id.
const maxLeaseDigits = 20

// HasLeaseSuffix reports whether key is service followed by a possible lease id, as in the lease suffix layout.
func HasLeaseSuffix(service, key string) bool {
	suffix, ok := strings.CutPrefix(key, service)
	return ok && len(suffix) >= LeaseDigits && strings.Trim(suffix, "0123456789") == ""
}

// IsStray reports whether an entry looks like the service's lease suffix layout, but its key names another lease than its own.
func (s *Service) IsStray(e Entry) bool {
	return HasLeaseSuffix(s.Key, e.Key) && !e.namesLease() && IsAddress(string(e.Value))
}

// StrayStem returns the key of a stray without the digits at its end.
func StrayStem(e Entry) (stem string, ok bool) {
	stem = strings.TrimRight(e.Key, "0123456789")
	ok = stem != "" && !strings.HasSuffix(stem, "/") && (&Service{Key: stem}).IsStray(e)
	return stem, ok
}

func layoutOf(key string, e Entry) endpoint.Layout {
	_, layout, _, _ := AnyLayout.Decode(key, e.Key, e.Value, e.Lease)
	return layout
}
