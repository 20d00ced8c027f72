package endpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// Reader reads the entries of a service key. It recognizes the layouts with a
// slash after the key by the value of an entry. It reads the other layouts only
// if the fields below enable them. Readers are comparable.
type Reader struct {
	LeaseSuffix bool   // also read entries in [LeaseSuffix]
	JSON        Layout // also read entries in this [MappedJSON], unless it is zero
}

// NewReader returns a reader of all layouts with a slash after the key, and of
// the given layouts.
func NewReader(layouts ...Layout) (Reader, error) {
	var r Reader
	for _, l := range layouts {
		switch {
		case l == LeaseSuffix:
			r.LeaseSuffix = true
		case !l.mapped() || l == r.JSON:
		case !r.JSON.IsZero():
			return Reader{}, fmt.Errorf(
				"two JSON layouts, %v and %v: a key can have one", r.JSON, l)

		default:
			if err := l.Check(); err != nil {
				return Reader{}, err
			}

			r.JSON = l
		}
	}

	return r, nil
}

// Range returns the etcd range [from, end) of the entries of a service key. The
// byte after "/" is "0", so one range covers both the layouts with a slash and
// the lease suffix, and excludes neighbours such as "key-admin".
func (r Reader) Range(key string) (from, end string) {
	if r.LeaseSuffix {
		return key + "/", key + ":"
	}

	return key + "/", key + "0"
}

// Decode reads one entry of the service key, found at etcdKey. lease is the
// entry's lease, 0 for none. An entry is in [LeaseSuffix] only if its key ends
// in the decimal id of its own lease.
//
// ok is false for a key that holds no entry of the service, such as a nested
// key or a neighbour's. err is non-nil for a malformed entry.
func (r Reader) Decode(
	key, etcdKey string,
	value []byte,
	lease int64,
) (e Endpoint, layout Layout, ok bool, err error) {
	suffix, ok := strings.CutPrefix(etcdKey, key)
	if !ok || suffix == "" {
		return e, layout, false, nil
	}

	if suffix[0] != '/' {
		layout, ok = leased(suffix, lease)
		if !ok || !r.LeaseSuffix {
			return Endpoint{}, Layout{}, false, nil
		}

		e, err = decodePlain(value)
		e.Instance = e.Addr

		return e, layout, true, err
	}

	instance := suffix[1:]
	if strings.Contains(instance, "/") {
		return e, layout, false, nil
	}

	if instance == "" || len(instance) > MaxInstance || !utf8.ValidString(instance) {
		return e, layout, true, fmt.Errorf(
			"invalid instance id %.80q (%d bytes)", instance, len(instance))
	}

	e, layout, err = r.decodeValue(key, instance, value)
	if err != nil {
		return Endpoint{}, Layout{}, true, err
	}

	e.Instance = cmp.Or(e.Instance, instance)

	if !layout.json {
		if l, ok := leased(suffix, lease); ok {
			layout = l
			e.Instance = e.Addr // not the lease id, which changes with each registration
		}
	}

	return e, layout, true, nil
}

// leased returns the layout of a bare address whose etcd key ends in the id of
// its lease.
func leased(suffix string, lease int64) (Layout, bool) {
	return find(func(l Layout) bool {
		return lease != 0 &&
			!l.json &&
			l.LeaseInKey() &&
			l.ends.end(Endpoint{}, lease) == suffix
	})
}

func (r Reader) decodeValue(
	key, instance string,
	value []byte,
) (Endpoint, Layout, error) {
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
		return fmt.Errorf("the JSON has %d bytes, more than %d", len(value), MaxValue)
	case !utf8.Valid(value):
		return errors.New("the JSON is not valid UTF-8")
	case !json.Valid(value):
		return errors.New("malformed JSON")
	}

	return nil
}
