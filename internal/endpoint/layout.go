package endpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unique"
)

// Layout is one way to keep an endpoint in etcd: one of the variables below, or what [MappedJSON]
// returns. Layouts are comparable. The zero value is none.
type Layout struct {
	*format
	fields unique.Handle[JSONFields] // of home-made JSON
}

// format is what all layouts of a kind have in common: a row of the table.
type format struct {
	number   int32  // in the enum of the proto option; 0 if there is none
	name     string // as it is spelled in targets; "" for home-made JSON, which is spelled by its fields
	constant string // the variable of package runtime
	entry    string // what errors call an entry; "" if none is about one
	ends     *place // nil if it is read but not written
	// encode writes the value of an endpoint that has been checked.
	encode   func(l Layout, key string, e Endpoint) ([]byte, error)
	needPort bool
	json     bool // values are JSON
	metadata bool // values have room for metadata
	dialect       // of JSON with the address in fields of its own
}

// place says what a layout's etcd keys end in.
type place struct {
	spelled string // as the documentation spells the key
	lease   bool   // it has the lease id, so that a lease holds one such entry of a service key
	end     func(e Endpoint, lease int64) string
}

// The places that several layouts share.
var (
	atInstance = &place{"<key>/<instance>", false, func(e Endpoint, _ int64) string { return "/" + e.Instance }}
	atAddr     = &place{"<key>/<address>", false, func(e Endpoint, _ int64) string { return "/" + e.Addr }}
)

// table has all layouts but home-made JSON, in the order of their numbers, those without one last. The files
// of the layouts add to it.
var table []Layout

// layout adds a row to the table.
func layout(f format) Layout {
	l := Layout{format: &f}
	at, _ := slices.BinarySearchFunc(table, l, func(a, b Layout) int {
		return cmp.Compare(uint32(a.number-1), uint32(b.number-1)) // 0 comes last
	})
	table = slices.Insert(table, at, l)
	return l
}

// Layouts returns the layouts that an entry can be written in, without home-made JSON, in the order of the proto's.
func Layouts() []Layout {
	return slices.DeleteFunc(slices.Clone(table), func(l Layout) bool { return l.encode == nil })
}

// Public returns the layout as package runtime has it, a runtime.Layout. That package sets it.
var Public func(Layout) any

// mappedJSON is what all layouts of home-made JSON have in common.
var mappedJSON = &format{name: "json_layout", entry: "json_layout entry", ends: atInstance, encode: encodeMapped, needPort: true, json: true}

// MappedJSON returns the layout of a home-made JSON with these fields. Equal fields make equal layouts.
func MappedJSON(fields JSONFields) Layout {
	return Layout{format: mappedJSON, fields: unique.Make(fields)}
}

func (l Layout) mapped() bool { return l.format == mappedJSON }

// LayoutByName finds a layout by what its String returns.
func LayoutByName(name string) (Layout, error) {
	var names []string
	for _, l := range Layouts() {
		if l.name == name {
			return l, nil
		}
		names = append(names, l.name)
	}
	return Layout{}, fmt.Errorf("unknown layout %.80q: want one of %s", name, strings.Join(names, ", "))
}

// LayoutNumbered finds a layout by its number in the enum of the proto option.
func LayoutNumbered(number int32) (Layout, bool) {
	for _, l := range Layouts() {
		if l.number == number {
			return l, true
		}
	}
	return Layout{}, false
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
func (l Layout) LeaseInKey() bool { return l.ends.lease }

// Constant is the name of the variable of package runtime, "" for home-made JSON and what is not written.
func (l Layout) Constant() string { return l.constant }

// Written reports whether servers write the layout.
func (l Layout) Written() bool { return !l.IsZero() && l.encode != nil }

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
	return key + l.ends.end(e, lease)
}

// Instance is the instance id that readers see of e.
func (l Layout) Instance(e Endpoint) string {
	if l.ends != atInstance {
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
