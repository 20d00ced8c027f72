package endpoint

import (
	"fmt"
	"strconv"
	"strings"
)

// Layout is one way to keep an endpoint in etcd. The set is closed: the variables below.
type Layout struct {
	name string
	at   place
	// encode writes the value of an endpoint that has been checked.
	encode   func(key string, e Endpoint) ([]byte, error)
	needPort bool
}

// place says what a layout's etcd key ends in.
type place int

const (
	atInstance    place = iota // <key>/<instance>
	atAddr                     // <key>/<host:port>
	atLease                    // <key>/<lease id>
	atLeaseSuffix              // <key><lease id>
)

// The layouts, named as they are spelled in targets.
var (
	EndpointJSON = &Layout{name: "endpoint_json", at: atInstance, encode: encodeNaming}
	Plain        = &Layout{name: "plain", at: atInstance, encode: encodePlain, needPort: true}
	LeaseSuffix  = &Layout{name: "lease_suffix", at: atLeaseSuffix, encode: encodePlain, needPort: true}
	GoZero       = &Layout{name: "go_zero", at: atLease, encode: encodePlain, needPort: true}
	Kratos       = &Layout{name: "kratos", at: atInstance, encode: encodeKratos, needPort: true}
	Kitex        = &Layout{name: "kitex", at: atAddr, encode: encodeKitex, needPort: true}
)

var layouts = []*Layout{EndpointJSON, Plain, LeaseSuffix, GoZero, Kratos, Kitex}

// LayoutByName finds a layout by what its String returns.
func LayoutByName(name string) (*Layout, error) {
	names := make([]string, len(layouts))
	for i, l := range layouts {
		if l.name == name {
			return l, nil
		}
		names[i] = l.name
	}
	return nil, fmt.Errorf("unknown layout %.80q: want one of %s", name, strings.Join(names, ", "))
}

func (l *Layout) String() string { return l.name }

// LeaseInKey reports whether the etcd key holds the lease id, so that a lease holds one such entry of
// a service key.
func (l *Layout) LeaseInKey() bool { return l.at == atLease || l.at == atLeaseSuffix }

// JSON reports whether values are JSON, which says more than the address: it carries metadata, and so
// the mark of leaving.
func (l *Layout) JSON() bool { return l == EndpointJSON || l == Kratos || l == Kitex }

// Key is the etcd key, without a namespace, of e under the service key.
func (l *Layout) Key(key string, e Endpoint, lease int64) string {
	switch l.at {
	case atAddr:
		return key + "/" + e.Addr
	case atLease:
		return key + "/" + strconv.FormatInt(lease, 10)
	case atLeaseSuffix:
		return key + strconv.FormatInt(lease, 10)
	default:
		return key + "/" + e.Instance
	}
}

// Encode writes the value of e under the service key. What Decode would refuse is an error.
func (l *Layout) Encode(key string, e Endpoint) ([]byte, error) {
	if err := CheckAddr(e.Addr, l.needPort); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	value, err := l.encode(key, e)
	if err != nil {
		return nil, err
	}
	if len(value) > MaxValue {
		return nil, fmt.Errorf("the value would be %d bytes, more than %d: shorten the metadata", len(value), MaxValue)
	}
	return value, nil
}

// Range is the etcd range [from, end) that holds the entries of a service key. The byte after "/"
// is "0" and digits follow, so one range covers both the slash layouts and the lease suffix, and
// leaves neighbours such as "key-admin" out.
func Range(key string, leaseSuffix bool) (from, end string) {
	if leaseSuffix {
		return key + "/", key + ":"
	}
	return key + "/", key + "0"
}
