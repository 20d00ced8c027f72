package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// JSONFields names the fields of home-made JSON. A field without a name is
// neither written nor read.
type JSONFields struct {
	Addr     string // holds "host:port"; excludes Host and Port
	Host     string
	Port     string
	Instance string
	Version  string
	Zone     string
	Weight   string // a number, or a string with one
	Metadata string // an object of strings

	// the service's name: when written, the last segment of its key; when read,
	// ignored
	Name string
}

// MaxField bounds the name of a field, in bytes.
const MaxField = 64

// All iterates over the fields that have a name. option is the name of the
// field in json_layout.
func (f JSONFields) All(yield func(option, name string) bool) {
	for _, field := range []struct{ option, name string }{
		{"addr", f.Addr},
		{"host", f.Host},
		{"port", f.Port},
		{"instance", f.Instance},
		{"version", f.Version},
		{"zone", f.Zone},
		{"weight", f.Weight},
		{"metadata", f.Metadata},
		{"name", f.Name},
	} {
		if field.name != "" && !yield(field.option, field.name) {
			return
		}
	}
}

// String returns the fields in the form of the option json_layout.
func (f JSONFields) String() string {
	var parts []string
	for option, name := range f.All {
		parts = append(parts, fmt.Sprintf("%s: %q", option, name))
	}

	return "{" + strings.Join(parts, " ") + "}"
}

// Check returns an error if the fields are not a valid layout. The text of the
// error is a predicate: "names no address".
func (f JSONFields) Check() error {
	switch {
	case f.Addr != "" && (f.Host != "" || f.Port != ""):
		return errors.New("names addr together with host or port: want one or the other")
	case f.Addr == "" && (f.Host == "") != (f.Port == ""):
		return errors.New("names one of host and port: want both, or addr")
	case f.Addr == "" && f.Host == "":
		return errors.New("names no address: set addr, or host and port")
	}

	options := make(map[string]string)
	for option, name := range f.All {
		if other, twice := options[name]; twice {
			return fmt.Errorf("names the field %.80q for both %s and %s",
				name, other, option)
		}

		if len(name) > MaxField || !utf8.ValidString(name) {
			return fmt.Errorf(
				"names for %s a field that is longer than %d bytes or not valid UTF-8",
				option, MaxField)
		}

		options[name] = option
	}

	return nil
}

// encodeMapped writes home-made JSON.
func encodeMapped(l Layout, key string, e Endpoint) ([]byte, error) {
	f := l.fields.Value()

	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return nil, err
	}

	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}

	all := map[string]any{ // fields without a name share the key ""
		f.Addr:     e.Addr,
		f.Host:     host,
		f.Port:     number,
		f.Instance: e.Instance,
		f.Version:  e.Version,
		f.Zone:     e.Zone,
		f.Weight:   e.Weight,
		f.Metadata: f.metadata(e),
		f.Name:     lastSegment(key),
	}
	if e.Weight == 0 { // other readers may send no calls to a weight of 0
		delete(all, f.Weight)
	}

	delete(all, "")

	return json.Marshal(all)
}

// metadata returns the metadata of e, and the version, zone and weight if they
// have no field of their own.
func (f JSONFields) metadata(e Endpoint) map[string]string {
	if f.Version != "" {
		e.Version = ""
	}

	if f.Zone != "" {
		e.Zone = ""
	}

	if f.Weight != "" {
		e.Weight = 0
	}

	return e.strings()
}

// mappedDocument holds the raw fields of home-made JSON.
type mappedDocument struct {
	addr, host, port, instance, version, zone, weight, metadata json.RawMessage
}

// document returns the fields of f in a value, which may be any JSON object.
func (f JSONFields) document(value []byte) *mappedDocument {
	d := &mappedDocument{}
	fields := [...]struct {
		name string
		to   *json.RawMessage
	}{
		{f.Addr, &d.addr},
		{f.Host, &d.host},
		{f.Port, &d.port},
		{f.Instance, &d.instance},
		{f.Version, &d.version},
		{f.Zone, &d.zone},
		{f.Weight, &d.weight},
		{f.Metadata, &d.metadata},
	}

	rawjson.Members(value, func(name, value []byte) bool {
		for _, field := range fields {
			if field.name != "" && field.name == string(name) {
				*field.to = value
			}
		}

		return true
	})

	return d
}

// located reports whether the fields of the address are present.
func (d *mappedDocument) located() bool {
	return present(d.addr) || present(d.host) && present(d.port)
}

// decodeMapped reads an entry with an address in the address fields of l. If a
// known layout has the same address fields, decodeMapped reads the entry in
// both layouts, so that l hides no field that a reader without l would read.
// The fields of l take precedence.
func (l Layout) decodeMapped(
	own *mappedDocument,
	instance string,
	value []byte,
) (Endpoint, Layout, error) {
	fields := l.fields.Value()
	d, layout, foreign := fields.shared(own, value)
	if layout.IsZero() {
		e, err := own.read()
		return e, l, inEntry(l, err)
	}

	e, err := layout.read(d, instance)
	if err != nil {
		return Endpoint{}, layout, inEntry(layout, err)
	}

	own.overlay(&e)

	// If l's field has no valid id, e keeps the id that a reader without l
	// would give it.
	if id := word(own.instance); CheckInstance(id) == nil {
		e.Instance = id
	}

	if _, err := own.address(); err == nil && !foreign {
		layout = l
	}

	return e, layout, nil
}

// shared returns the known layout with the same address fields as f, or the
// zero value. d has the fields of value in that layout. foreign reports whether
// value has a field of a known layout that f does not name.
func (f JSONFields) shared(
	own *mappedDocument,
	value []byte,
) (d document, layout Layout, foreign bool) {
	var address []json.RawMessage
	layout, ok := find(func(l Layout) bool {
		address = l.addressIn(f, own)
		return address != nil
	})
	if !ok {
		return d, layout, false
	}

	d, foreign = f.others(value)
	for i, raw := range address {
		d[layout.address[i]] = raw
	}

	// If the array holds no addresses, value is in another layout: endpoints
	// next to nodes are go-micro's methods.
	if other, ok := d.layout(present); ok && layout.array && d.hidden(layout) {
		layout = other
	}

	return d, layout, foreign
}

// others returns the fields of value to which f gives no other meaning: the
// fields that f does not name, and the metadata under its usual name. foreign
// reports whether value has a field of a known layout that f does not name.
func (f JSONFields) others(value []byte) (d document, foreign bool) {
	rawjson.Members(value, func(rawName, value []byte) bool {
		name := string(rawName)
		named := f.names(name)
		_, known := fields[name]
		foreign = foreign || !named && known

		usual := name == f.Metadata && strings.EqualFold(name, "metadata")
		if !named || usual {
			d.set(rawName, value)
		}

		return true
	})

	return d, foreign
}

// addressIn returns the values of the address in own if f has the address
// fields of the dialect, nil otherwise.
func (d dialect) addressIn(f JSONFields, own *mappedDocument) []json.RawMessage {
	names := []string{f.Addr}
	values := []json.RawMessage{own.addr}

	if f.Addr == "" {
		names = []string{f.Host, f.Port}
		values = []json.RawMessage{own.host, own.port}
	}

	same := slices.EqualFunc(names, d.address, func(name string, want field) bool {
		at, known := fields[name]
		return known && at == want
	})
	if !same || d.array && values[0][0] != '[' {
		return nil
	}

	return values
}

// names reports whether f has a field of this name.
func (f JSONFields) names(name string) bool {
	for _, own := range f.All {
		if own == name {
			return true
		}
	}

	return false
}

func (d *mappedDocument) read() (e Endpoint, err error) {
	e.Addr, err = d.address()
	if err != nil {
		return Endpoint{}, err
	}

	if present(d.instance) {
		e.Instance = word(d.instance)
		if e.Instance == "" {
			return Endpoint{}, fmt.Errorf(
				"the instance id is %s, neither a string nor a number",
				printable.Short(string(d.instance), 20))
		}

		if err := CheckInstance(e.Instance); err != nil {
			return Endpoint{}, err
		}
	}

	d.overlay(&e)

	return e, nil
}

// overlay sets the fields of e that d has, except the address and the instance
// id.
func (d *mappedDocument) overlay(e *Endpoint) {
	e.take(d.metadata)
	takeText(&e.Version, d.version)
	takeText(&e.Zone, d.zone)
	e.takeWeight(d.weight)
}

func (d *mappedDocument) address() (string, error) {
	if present(d.addr) {
		return address(d.addr, true)
	}

	return hostPort(d.host, d.port)
}
