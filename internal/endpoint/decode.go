package endpoint

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// Decode reads one entry found at etcdKey, on a lease or on none (0), under the service key. All
// layouts with a slash are told apart by their values; an entry is of the lease suffix only when
// its suffix is the decimal id of the very lease it hangs on.
//
// ok is false for what is no entry of this service key at all, such as a nested key or a
// neighbour's. err is a malformed entry.
func Decode(key, etcdKey string, value []byte, lease int64) (e Endpoint, layout *Layout, ok bool, err error) {
	suffix, ok := strings.CutPrefix(etcdKey, key)
	if !ok || suffix == "" {
		return Endpoint{}, nil, false, nil
	}
	if suffix[0] != '/' {
		if !isLeaseID(suffix, lease) {
			return Endpoint{}, nil, false, nil
		}
		e, err = decodePlain(value)
		e.Instance = e.Addr
		return e, LeaseSuffix, true, err
	}
	instance := suffix[1:]
	if strings.Contains(instance, "/") {
		return Endpoint{}, nil, false, nil
	}
	if instance == "" || !utf8.ValidString(instance) {
		return Endpoint{}, nil, true, fmt.Errorf("%.80q is no instance id", instance)
	}
	e, layout, err = decodeValue(value)
	if err != nil {
		return Endpoint{}, nil, true, err
	}
	e.Instance = instance
	if layout == Plain && isLeaseID(instance, lease) {
		// A lease id changes with each registration; the address does not.
		layout, e.Instance = GoZero, e.Addr
	}
	return e, layout, true, nil
}

func isLeaseID(s string, lease int64) bool {
	return lease != 0 && s == strconv.FormatInt(lease, 10)
}

func decodeValue(value []byte) (Endpoint, *Layout, error) {
	if start := rawjson.SkipSpace(value); len(start) > 0 && start[0] == '{' {
		return decodeJSON(value)
	}
	e, err := decodePlain(value)
	return e, Plain, err
}

func decodePlain(value []byte) (Endpoint, error) {
	// Longer than any host:port can be: not to be copied.
	if len(value) > 512 {
		return Endpoint{}, fmt.Errorf("%d bytes that are neither host:port nor JSON", len(value))
	}
	addr := string(value)
	if err := CheckAddr(addr, true); err != nil {
		return Endpoint{}, err
	}
	return Endpoint{Addr: addr}, nil
}

func parseWeight(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}
