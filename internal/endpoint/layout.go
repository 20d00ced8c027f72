package endpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unique"
)

// Layout is one way to keep an endpoint in etcd: one of the variables below, or what [MappedJSON]
// returns. Layouts are comparable. The zero value is none.
type Layout struct {
	*format
	fields unique.Handle[JSONFields] // of home-made JSON
}

// format is what all layouts of a kind have in common.
type format struct {
	name  string // "" for home-made JSON, which is spelled by its fields
	entry string // what errors call an entry; "" if none is about one
	at    place
	// encode writes the value of an endpoint that has been checked.
	encode   func(l Layout, key string, e Endpoint) ([]byte, error)
	needPort bool
	json     bool // values are JSON
	metadata bool // values have room for metadata
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
	EndpointJSON = layout(format{name: "endpoint_json", entry: "etcd's naming entry", at: atInstance, encode: encodeNaming, json: true, metadata: true})
	Plain        = layout(format{name: "plain", at: atInstance, encode: encodePlain, needPort: true})
	LeaseSuffix  = layout(format{name: "lease_suffix", at: atLeaseSuffix, encode: encodePlain, needPort: true})
	GoZero       = layout(format{name: "go_zero", at: atLease, encode: encodePlain, needPort: true})
	Kratos       = layout(format{name: "kratos", entry: "kratos entry", at: atInstance, encode: encodeKratos, needPort: true, json: true, metadata: true})
	Kitex        = layout(format{name: "kitex", entry: "kitex entry", at: atAddr, encode: encodeKitex, needPort: true, json: true, metadata: true})
	GoFrame      = layout(format{name: "go_frame", at: atAddr, encode: encodeGoFrame, needPort: true, json: true, metadata: true})
	GoMicro      = layout(format{name: "go_micro", entry: "go-micro entry", at: atInstance, encode: encodeGoMicro, needPort: true, json: true, metadata: true})
)

// Dubbo is dubbo-go's, which is read but not written.
var Dubbo = layout(format{name: "dubbo", entry: "dubbo entry", json: true, metadata: true})

var layouts = []Layout{EndpointJSON, Plain, LeaseSuffix, GoZero, Kratos, Kitex, GoFrame, GoMicro}

// Layouts returns all that servers write, but for home-made JSON.
func Layouts() []Layout { return slices.Clone(layouts) }

func layout(f format) Layout { return Layout{format: &f} }

// mappedJSON is what all layouts of home-made JSON have in common.
var mappedJSON = &format{name: "json_layout", entry: "json_layout entry", at: atInstance, encode: encodeMapped, needPort: true, json: true}

// MappedJSON returns the layout of a home-made JSON with these fields. Equal fields make equal layouts.
func MappedJSON(fields JSONFields) Layout {
	return Layout{format: mappedJSON, fields: unique.Make(fields)}
}

func (l Layout) mapped() bool { return l.format == mappedJSON }

// LayoutByName finds a layout by what its String returns.
func LayoutByName(name string) (Layout, error) {
	names := make([]string, len(layouts))
	for i, l := range layouts {
		if l.name == name {
			return l, nil
		}
		names[i] = l.name
	}
	return Layout{}, fmt.Errorf("unknown layout %.80q: want one of %s", name, strings.Join(names, ", "))
}

// IsZero reports whether l is no layout.
func (l Layout) IsZero() bool { return l.format == nil }

func (l Layout) String() string {
	switch {
	case l.IsZero():
		return "none"
	case l.mapped():
		return l.fields.Value().String()
	}
	return l.name
}

// Check returns why nothing can be written or read in l, nil if it can.
func (l Layout) Check() error {
	if !l.mapped() {
		return nil
	}
	if err := l.fields.Value().Check(); err != nil {
		return fmt.Errorf("layout %.200s %w", l.String(), err)
	}
	return nil
}

// LeaseInKey reports whether the etcd key holds the lease id, so that a lease holds one such entry of
// a service key.
func (l Layout) LeaseInKey() bool { return l.at == atLease || l.at == atLeaseSuffix }

// JSON reports whether values are JSON.
func (l Layout) JSON() bool { return l.json }

// Metadata reports whether values have room for metadata, and so for the mark of leaving.
func (l Layout) Metadata() bool {
	if l.mapped() {
		return l.fields.Value().Metadata != ""
	}
	return l.metadata
}

// Key is the etcd key, without a namespace, of e under the service key.
func (l Layout) Key(key string, e Endpoint, lease int64) string {
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

// Instance is the instance id that readers see of e.
func (l Layout) Instance(e Endpoint) string {
	if l.at != atInstance {
		return e.Addr
	}
	return e.Instance
}

// Encode writes the value of e under the service key. What a [Reader] would refuse is an error.
func (l Layout) Encode(key string, e Endpoint) ([]byte, error) {
	if l.encode == nil {
		return nil, fmt.Errorf("layout %v is read but not written", l)
	}
	if err := l.Check(); err != nil {
		return nil, err
	}
	if err := CheckAddr(e.Addr, l.needPort); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	value, err := l.encode(l, key, e)
	if err != nil {
		return nil, err
	}
	if len(value) > MaxValue {
		return nil, fmt.Errorf("the value would be %d bytes, more than %d: shorten the metadata, %.80q above all", len(value), MaxValue, e.longest())
	}
	return value, nil
}

// longest returns the name of the longest piece of metadata.
func (e Endpoint) longest() string {
	return slices.MaxFunc(append(slices.Sorted(maps.Keys(e.Metadata)), ""), func(a, b string) int {
		return cmp.Compare(len(a)+len(e.Metadata[a]), len(b)+len(e.Metadata[b]))
	})
}

// lastSegment returns the last segment of a service key, which other frameworks take for the service's name.
func lastSegment(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }
