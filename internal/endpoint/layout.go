package endpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unique"
)

// Layout is one form of an endpoint in etcd: one of the variables below, or the
// result of [MappedJSON]. Layouts are comparable. The zero value is invalid.
type Layout struct {
	*format
	fields unique.Handle[JSONFields] // of home-made JSON
}

// format is a row of the table: the properties that all layouts of a kind
// share.
type format struct {
	name     string // the name in gRPC targets
	constant string // the name of the variable in package runtime
	entry    string // names an entry in errors; "" if no error is about an entry
	ends     *place // where the keys end; nil if the layout is read but not written

	// encode writes the value of a checked endpoint.
	encode func(l Layout, key string, e Endpoint) ([]byte, error)

	bareHost bool // an address may lack the port
	json     bool // values are JSON; see Metadata
	dialect       // how JSON is read

	// These say how the framework's own readers fail on JSON and on bare
	// addresses in other layouts, "" if the readers accept such entries.
	onJSON, onBare string
}

// place is the last part of a layout's etcd keys.
type place struct {
	spelled string // the form of the key in the documentation

	// whether the key ends in the lease id, so that a lease has at most one
	// such entry for each service key
	lease bool

	end func(e Endpoint, lease int64) string
}

// Several layouts share these places.
var (
	atInstance = &place{"<key>/<instance>", false, func(e Endpoint, _ int64) string {
		return "/" + e.Instance
	}}

	atAddr = &place{"<key>/<address>", false, func(e Endpoint, _ int64) string {
		return "/" + e.Addr
	}}
)

// table has all layouts except home-made JSON: first the layouts of the proto
// enum in its order, then the layouts that are only read. init sets the table,
// because a value in the declaration would depend on itself: GoFrame's
// functions search the table.
var table []Layout

func init() {
	table = []Layout{
		EndpointJSON, Plain, LeaseSuffix, GoZero, Kratos, Kitex, GoFrame, GoMicro,
		Dubbo,
	}
}

// layout returns the layout of a row.
func layout(f format) Layout {
	return Layout{format: &f}
}

// find returns the first layout in the table that satisfies test.
func find(test func(Layout) bool) (Layout, bool) {
	if i := slices.IndexFunc(table, test); i >= 0 {
		return table[i], true
	}

	return Layout{}, false
}

// Layouts returns the layouts that servers write, without home-made JSON, in
// the order of the proto enum.
func Layouts() []Layout {
	return slices.DeleteFunc(slices.Clone(table), func(l Layout) bool {
		return l.encode == nil
	})
}

// Public converts a layout to a runtime.Layout. Package runtime sets this
// variable.
var Public func(Layout) any

// mappedJSON is the format of all layouts of home-made JSON.
var mappedJSON = &format{
	name:   "json_layout",
	entry:  "json_layout entry",
	ends:   atInstance,
	encode: encodeMapped,
	json:   true,
}

// MappedJSON returns the layout of home-made JSON with these fields. Equal
// fields give equal layouts.
func MappedJSON(fields JSONFields) Layout {
	return Layout{format: mappedJSON, fields: unique.Make(fields)}
}

func (l Layout) mapped() bool {
	return l.format == mappedJSON
}

// LayoutByName returns the layout whose String is name.
func LayoutByName(name string) (Layout, error) {
	l, ok := find(func(l Layout) bool { return l.name == name && l.encode != nil })
	if !ok {
		return Layout{}, fmt.Errorf("unknown layout %.80q: want one of %v",
			name, Layouts())
	}

	return l, nil
}

// IsZero reports whether l is the zero Layout.
func (l Layout) IsZero() bool {
	return l.format == nil
}

func (l Layout) String() string {
	switch {
	case l.IsZero():
		return "none"
	case l.mapped():
		return l.fields.Value().String()
	}

	return l.name
}

// Check returns an error if l can be neither written nor read.
func (l Layout) Check() error {
	if !l.mapped() {
		return nil
	}

	if err := l.fields.Value().Check(); err != nil {
		return fmt.Errorf("layout %.200s %w", l.String(), err)
	}

	return nil
}

// LeaseInKey reports whether the etcd key ends in the lease id, so that a lease
// has at most one such entry for each service key.
func (l Layout) LeaseInKey() bool {
	return l.ends.lease
}

// Constant returns the name of the layout's variable in package runtime, "" for
// home-made JSON and layouts that are not written.
func (l Layout) Constant() string {
	return l.constant
}

// Metadata reports whether values can carry metadata, and so the mark of
// leaving.
func (l Layout) Metadata() bool {
	if l.mapped() {
		return l.fields.Value().Metadata != ""
	}

	return l.json
}

// Key returns the etcd key, without a namespace, of e under the service key.
func (l Layout) Key(key string, e Endpoint, lease int64) string {
	return key + l.ends.end(e, lease)
}

// Instance returns the instance id with which readers see e.
func (l Layout) Instance(e Endpoint) string {
	if l.ends != atInstance {
		return e.Addr
	}

	return e.Instance
}

// Encode writes the value of e under the service key. It returns an error for
// an endpoint that a [Reader] would reject.
func (l Layout) Encode(key string, e Endpoint) ([]byte, error) {
	if l.encode == nil {
		return nil, fmt.Errorf("layout %v is read but not written", l)
	}

	if err := l.Check(); err != nil {
		return nil, err
	}

	if err := CheckAddr(e.Addr, !l.bareHost); err != nil {
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
		names := append(slices.Sorted(maps.Keys(e.Metadata)), "")
		longest := slices.MaxFunc(names, func(a, b string) int {
			return cmp.Compare(len(a)+len(e.Metadata[a]), len(b)+len(e.Metadata[b]))
		})

		return nil, fmt.Errorf("the value would be %d bytes, more than %d: shorten the metadata, %.80q above all",
			len(value), MaxValue, longest)
	}

	return value, nil
}

// lastSegment returns the last segment of a service key, which other frameworks
// use as the service's name.
func lastSegment(key string) string {
	return key[strings.LastIndexByte(key, '/')+1:]
}

// Trouble returns how the reader of a layout's own framework fails on an entry
// in another layout, "" if the reader accepts or skips the entry.
// docs/layouts.md lists the same pairs, and module compat tries each on the
// real readers.
func Trouble(own, other Layout) string {
	switch {
	case own.ends == other.ends: // their keys are the same, so no server writes both
		return ""
	case other.json:
		return own.onJSON
	default:
		return own.onBare
	}
}

// Remedy returns what a user can do about two layouts with the same etcd key.
func Remedy(a, b Layout) string {
	// whether the framework's own reader fails on every other layout, even at
	// another key
	alone := func(l Layout) bool { return l.onJSON != "" && l.onBare != "" }
	if a.ends == b.ends || alone(a) || alone(b) {
		return "leave one out"
	}

	return "leave one out, or set another instance id"
}
