package survey

import (
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// OwnerOf returns the key of the service that an entry belongs to: the part before the lease id, if the
// entry hangs on that lease and no mark such as "-" makes it the end of a name, or else the part before the last slash.
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

// Owners returns a function that tells which service each of some entries belongs to, by its key: [OwnerOf] or, of a stray,
// the longest key of a service that has an entry in the lease suffix layout.
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

// LeaseDigits is the least length of a decimal lease id: etcd's are nearly random numbers of 63 bits.
const LeaseDigits = 15

// maxLeaseDigits is the greatest: of a number of 64 bits.
const maxLeaseDigits = 20

// HasLeaseSuffix reports whether a key is that of a service with what may be a lease id behind it, as in the lease suffix
// layout.
func HasLeaseSuffix(service, key string) bool {
	suffix, ok := strings.CutPrefix(key, service)
	return ok && len(suffix) >= LeaseDigits && strings.Trim(suffix, "0123456789") == ""
}

// IsStray reports whether an entry looks like one of the service in the lease suffix layout, but on
// another lease than its key says.
func (s *Service) IsStray(e Entry) bool {
	return HasLeaseSuffix(s.Key, e.Key) && !e.namesLease() && IsAddress(string(e.Value))
}

// StrayStem returns the key of a stray without the digits that it ends in.
func StrayStem(e Entry) (stem string, ok bool) {
	stem = strings.TrimRight(e.Key, "0123456789")
	ok = stem != "" && !strings.HasSuffix(stem, "/") && (&Service{Key: stem}).IsStray(e)
	return stem, ok
}

func layoutOf(key string, e Entry) endpoint.Layout {
	_, layout, _, _ := AnyLayout.Decode(key, e.Key, e.Value, e.Lease)
	return layout
}
