package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// Reader reads the entries of a service key. It tells all layouts with a slash after the key apart by
// their values, and reads the others only if it is made for them. Readers are comparable.
type Reader struct {
	LeaseSuffix bool   // read the entries of [LeaseSuffix]
	JSON        Layout // read the entries of this [MappedJSON], too; the zero value for none
}

// NewReader returns a reader of all layouts with a slash after the key, and of those given.
func NewReader(layouts ...Layout) (Reader, error) {
	var r Reader
	for _, l := range layouts {
		switch {
		case l == LeaseSuffix:
			r.LeaseSuffix = true
		case !l.mapped() || l == r.JSON:
		case !r.JSON.IsZero():
			return Reader{}, fmt.Errorf("two JSON layouts, %v and %v: a key can have one", r.JSON, l)
		default:
			if err := l.Check(); err != nil {
				return Reader{}, err
			}
			r.JSON = l
		}
	}
	return r, nil
}

// Range is the etcd range [from, end) that holds the entries of a service key. The byte after "/"
// is "0" and digits follow, so one range covers both the slash layouts and the lease suffix, and
// leaves neighbours such as "key-admin" out.
func (r Reader) Range(key string) (from, end string) {
	if r.LeaseSuffix {
		return key + "/", key + ":"
	}
	return key + "/", key + "0"
}

// Decode reads one entry found at etcdKey, on a lease or on none (0), under the service key. An entry
// is of the lease suffix only when its suffix is the decimal id of the very lease it hangs on.
//
// ok is false for what is no entry of this service key at all, such as a nested key or a
// neighbour's. err is a malformed entry.
func (r Reader) Decode(key, etcdKey string, value []byte, lease int64) (e Endpoint, layout Layout, ok bool, err error) {
	suffix, ok := strings.CutPrefix(etcdKey, key)
	if !ok || suffix == "" {
		return Endpoint{}, Layout{}, false, nil
	}
	if suffix[0] != '/' {
		if !r.LeaseSuffix || !isLeaseID(suffix, lease) {
			return Endpoint{}, Layout{}, false, nil
		}
		e, err = decodePlain(value)
		e.Instance = e.Addr
		return e, LeaseSuffix, true, err
	}
	instance := suffix[1:]
	if strings.Contains(instance, "/") {
		return Endpoint{}, Layout{}, false, nil
	}
	if instance == "" || len(instance) > MaxInstance || !utf8.ValidString(instance) {
		return Endpoint{}, Layout{}, true, fmt.Errorf("%.80q, of %d bytes, is no instance id", instance, len(instance))
	}
	e, layout, err = r.decodeValue(key, instance, value)
	if err != nil {
		return Endpoint{}, Layout{}, true, err
	}
	if e.Instance == "" {
		e.Instance = instance
	}
	if layout == Plain && isLeaseID(instance, lease) {
		// A lease id changes with each registration; the address does not.
		layout, e.Instance = GoZero, e.Addr
	}
	return e, layout, true, nil
}

func isLeaseID(s string, lease int64) bool {
	return lease != 0 && s == strconv.FormatInt(lease, 10)
}

func (r Reader) decodeValue(key, instance string, value []byte) (Endpoint, Layout, error) {
	if start := rawjson.SkipSpace(value); len(start) == 0 || start[0] != '{' {
		e, err := decodePlain(value)
		return e, Plain, err
	}
	if err := checkJSON(value); err != nil {
		return Endpoint{}, Layout{}, err
	}
	e, layout, err := r.decodeJSON(key, instance, value)
	if err == nil {
		err = e.checkPieces()
	}
	return e, layout, err
}

func checkJSON(value []byte) error {
	switch {
	case len(value) > MaxValue:
		return fmt.Errorf("%d bytes of JSON, more than %d", len(value), MaxValue)
	case !utf8.Valid(value):
		return errors.New("JSON that is not valid UTF-8")
	case !json.Valid(value):
		return errors.New("malformed JSON")
	}
	return nil
}
