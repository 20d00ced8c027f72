package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// dialect describes the JSON of a layout. The zero value describes no JSON.
type dialect struct {
	where string // where the address is, for errors

	// the field that holds the address, or the two fields that hold host and
	// port
	address []field

	// whether the address is in an array; false for home-made JSON
	array bool

	// address fields of other layouts that have another meaning in an entry
	// with the address fields of this layout
	hides []field

	// fields that identify the layout of an entry without an address: no other
	// layout has all of them
	claims []field

	// read reads an entry. instance is the last segment of its etcd key.
	read func(d document, instance string) (Endpoint, error)

	// readAt reads an entry whose address is in its etcd key alone. ok is false
	// if the key has no address. Only GoFrame has such entries.
	readAt func(key, instance string, value []byte) (e Endpoint, ok bool, err error)
}

// field is the index of a field in a document.
type field int

// maxFields bounds the fields of all dialects together.
const maxFields = 24

// document holds the fields of all dialects of JSON. The fields are raw,
// because two dialects may give one name different types.
type document [maxFields]json.RawMessage

// fields maps the names of fields to their indexes in a document.
var (
	fields = make(map[string]field)
	spoken []string // the first name of each field, for errors
)

// named returns the field with these names, and adds the field if it is new.
func named(names ...string) field {
	f, known := fields[names[0]]
	if !known {
		f = field(len(spoken))
		spoken = append(spoken, names[0])
	}

	if f >= maxFields {
		panic("endpoint: maxFields is too small")
	}

	for _, name := range names {
		fields[name] = f
	}

	return f
}

// These fields belong to several dialects.
var (
	fieldMetadata = named("Metadata")
	fieldLower    = named("metadata")
	fieldVersion  = named("version", "Version")
	fieldZone     = named("zone", "Zone")
	fieldWeight   = named("weight", "Weight")
)

// set sets a field. If the field has two names, such as Addr and addr, a null
// under one does not hide the value under the other.
func (d *document) set(name, value []byte) bool {
	if f, known := fields[string(name)]; known && (d[f] == nil || present(value)) {
		d[f] = value
	}

	return true
}

// all reports whether the value of each given field satisfies test.
func (d *document) all(fields []field, test func(json.RawMessage) bool) bool {
	return !slices.ContainsFunc(fields, func(f field) bool { return !test(d[f]) })
}

// decodeJSON reads a JSON object of any dialect, found under a service key.
// instance is the last segment of the entry's etcd key.
func (r Reader) decodeJSON(key, instance string, value []byte) (Endpoint, Layout, error) {
	if r.JSON.mapped() {
		if own := r.JSON.fields.Value().document(value); own.located() {
			return r.JSON.decodeMapped(own, instance, value)
		}
	}

	var d document
	rawjson.Members(value, d.set)

	if layout, ok := d.layout(present); ok {
		e, err := layout.read(d, instance)
		return e, layout, inEntry(layout, err)
	}

	if layout, ok := d.claimed(); ok {
		return Endpoint{}, layout, inEntry(layout, d.lacks(layout.address))
	}

	layout, _ := find(func(l Layout) bool { return l.readAt != nil })
	if e, ok, err := layout.readAt(key, instance, value); ok {
		return e, layout, err
	}

	return Endpoint{}, Layout{}, r.noAddress()
}

// layout returns the first layout whose address fields all satisfy test in this
// document and are not hidden.
func (d *document) layout(test func(json.RawMessage) bool) (Layout, bool) {
	return find(func(l Layout) bool {
		return l.address != nil && d.all(l.address, test) && !d.hidden(l)
	})
}

// hidden reports whether the address field of l has another meaning in this
// document, because the document has the address fields of another layout. For
// example, endpoints are addresses in kratos, but methods in go-micro: next to
// nodes, they are go-micro's.
func (d *document) hidden(l Layout) bool {
	return slices.ContainsFunc(table, func(o Layout) bool {
		return slices.Contains(o.hides, l.address[0]) && d.all(o.address, given)
	})
}

// claimed returns the layout of a document without an address. Such a document
// has the address fields of the layout, perhaps with null, or the fields that
// the layout claims.
func (d *document) claimed() (Layout, bool) {
	if layout, ok := d.layout(given); ok {
		return layout, true
	}

	return find(func(l Layout) bool {
		return l.claims != nil && d.all(l.claims, given)
	})
}

// lacks returns the reason why the given address fields hold no address.
func (d *document) lacks(address []field) error {
	for _, f := range address {
		if d[f] == nil {
			return fmt.Errorf("there is no %s", strings.ToLower(spoken[f]))
		}
	}

	return errors.New("the address is null")
}

// inEntry adds the layout of the entry to an error.
func inEntry(layout Layout, err error) error {
	if err == nil {
		return nil
	}

	return fmt.Errorf("%s: %w", layout.entry, err)
}

// noAddress returns an error that lists where a value could have its address.
func (r Reader) noAddress() error {
	own := ""
	if r.JSON.mapped() {
		own = fmt.Sprintf("nothing where json_layout %.200s has it, ", r.JSON)
	}

	var places []string
	for _, l := range table {
		if l.where != "" {
			places = append(places, l.where)
		}
	}

	return fmt.Errorf("JSON that names no address: %sno %s",
		own, strings.Join(places, ", "))
}

// address reads an address from one field.
func address(raw json.RawMessage, needPort bool) (string, error) {
	addr, err := text("address", raw)
	if err != nil {
		return "", err
	}

	return addr, CheckAddr(addr, needPort)
}

// hostPort joins a host and a port, each from a field, to an address.
func hostPort(rawHost, rawPort json.RawMessage) (string, error) {
	host, err := text("host", rawHost)
	if err != nil {
		return "", err
	}

	port := word(rawPort)
	if port == "" {
		return "", fmt.Errorf("the port is %s, neither a number nor a string with one",
			printable.Short(string(rawPort), 20))
	}

	addr := net.JoinHostPort(host, port)

	return addr, CheckAddr(addr, true)
}

// text returns the string in a value. Errors call the value by the name what.
func text(what string, raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", fmt.Errorf("there is no %s", what)
	}

	if raw[0] != '"' {
		return "", fmt.Errorf("the %s is %s, not a string",
			what, printable.Short(string(raw), 20))
	}

	return rawjson.Text(raw), nil
}

// elements returns the values of an array. Errors call the array by the name
// what.
func elements(what string, raw json.RawMessage) ([]json.RawMessage, error) {
	if raw[0] != '[' {
		return nil, fmt.Errorf("%s is %s, not an array",
			what, printable.Short(string(raw), 20))
	}

	return rawjson.Elements(raw), nil
}

// given reports whether a field is present, even as null.
func given(raw json.RawMessage) bool {
	return raw != nil
}

// present reports whether a field is present and not null.
func present(raw json.RawMessage) bool {
	return len(raw) > 0 && string(raw) != "null"
}

// word returns a string or the text of a number. It returns "" for any other
// value.
func word(raw json.RawMessage) string {
	// An object, an array and a boolean begin with these.
	if !present(raw) || strings.IndexByte("{[tf", raw[0]) >= 0 {
		return ""
	}

	return rawjson.Text(raw)
}
