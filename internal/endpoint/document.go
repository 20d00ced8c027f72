package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// document holds the fields of all dialects of JSON, which differ in the fields that hold the address.
// The fields are raw, since two dialects may have a field of one name with different types.
type document struct {
	op, addr, metadata    json.RawMessage // etcd's naming package
	version, zone, weight json.RawMessage // with or without a capital
	endpoints, lower      json.RawMessage // kratos; lower is "metadata", without the capital
	network, address      json.RawMessage // kitex
	tags                  json.RawMessage
	nodes                 json.RawMessage // go-micro
	host, port            json.RawMessage // dubbo-go
	enable, healthy       json.RawMessage
}

// set takes a field of the value. A null does not hide a field that has two names, such as Addr and addr.
func (d *document) set(name, value []byte) bool {
	field := d.field(string(name))
	if field == nil {
		return true
	}
	if *field == nil || present(value) {
		*field = value
	}
	return true
}

// field returns the place for a field, nil if no dialect has it.
func (d *document) field(name string) *json.RawMessage {
	switch name {
	case "Op", "op":
		return &d.op
	case "Addr", "addr":
		return &d.addr
	case "Metadata":
		return &d.metadata
	case "metadata":
		return &d.lower
	case "version", "Version":
		return &d.version
	case "zone", "Zone":
		return &d.zone
	case "weight", "Weight":
		return &d.weight
	case "endpoints":
		return &d.endpoints
	case "network":
		return &d.network
	case "address":
		return &d.address
	case "tags":
		return &d.tags
	case "nodes":
		return &d.nodes
	case "Host":
		return &d.host
	case "Port":
		return &d.port
	case "Enable":
		return &d.enable
	case "Healthy":
		return &d.healthy
	}
	return nil
}

// decodeJSON reads a value that is a JSON object of any dialect, under a service key. instance is the last
// segment of the entry's etcd key.
func (r Reader) decodeJSON(key, instance string, value []byte) (Endpoint, Layout, error) {
	if r.JSON.mapped() {
		if own := r.JSON.fields.Value().document(value); own.located() {
			return r.JSON.decodeMapped(own, instance, value)
		}
	}
	var d document
	rawjson.Members(value, d.set)
	if layout, ok := d.layout(present); ok {
		e, err := d.decode(layout, instance)
		return e, layout, err
	}
	if layout, ok := d.claimed(); ok {
		why := "the address is null"
		if layout == Dubbo && d.port == nil {
			why = "there is no port"
		}
		return Endpoint{}, layout, inEntry(layout, errors.New(why))
	}
	e, ok, err := goFrame(key, instance, value)
	if !ok {
		return Endpoint{}, Layout{}, r.noAddress()
	}
	return e, GoFrame, err
}

// layout returns the layout that has its address in a field for which is is true.
func (d *document) layout(is func(json.RawMessage) bool) (Layout, bool) {
	switch {
	case is(d.addr):
		return EndpointJSON, true
	case is(d.nodes):
		return GoMicro, true
	case is(d.endpoints) && d.nodes == nil: // go-micro has endpoints of its own
		return Kratos, true
	case is(d.address):
		return Kitex, true
	case is(d.host) && is(d.port):
		return Dubbo, true
	}
	return Layout{}, false
}

// claimed returns the layout whose fields are there, though they may give no address.
func (d *document) claimed() (Layout, bool) {
	if layout, ok := d.layout(given); ok {
		return layout, true
	}
	return Dubbo, d.host != nil && d.enable != nil
}

// decode reads the entry in a layout. instance is the last segment of its etcd key.
func (d *document) decode(layout Layout, instance string) (e Endpoint, err error) {
	switch layout {
	case EndpointJSON:
		e, err = d.naming()
	case GoMicro:
		e, err = d.goMicro(instance)
	case Kratos:
		e, err = d.kratos()
	case Kitex:
		e, err = d.kitex()
	default:
		e, err = d.dubbo()
	}
	return e, inEntry(layout, err)
}

// inEntry adds to what is wrong with an entry which layout it is in.
func inEntry(layout Layout, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", layout.entry, err)
}

// noAddress says where a value could have had an address.
func (r Reader) noAddress() error {
	own := ""
	if r.JSON.mapped() {
		own = fmt.Sprintf("nothing where json_layout %.200s has it, ", r.JSON)
	}
	return errors.New("JSON that names no address: " + own + "no Addr (etcd), nodes (go-micro), endpoints (kratos), " +
		"address (kitex) or Host and Port (dubbo), nor does its key end in host:port (GoFrame)")
}

// address reads an address from one field.
func address(raw json.RawMessage, needPort bool) (string, error) {
	addr, err := text("address", raw)
	if err != nil {
		return "", err
	}
	return addr, CheckAddr(addr, needPort)
}

// hostPort returns the address of which two fields have a part each.
func hostPort(rawHost, rawPort json.RawMessage) (string, error) {
	host, err := text("host", rawHost)
	if err != nil {
		return "", err
	}
	port := word(rawPort)
	if port == "" {
		return "", fmt.Errorf("the port is %s, neither a number nor the text of one", printable.Short(string(rawPort), 20))
	}
	addr := net.JoinHostPort(host, port)
	return addr, CheckAddr(addr, true)
}

// text returns the string that a value is to be. what is its name in an error.
func text(what string, raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", fmt.Errorf("there is no %s", what)
	}
	if raw[0] != '"' {
		return "", fmt.Errorf("the %s is %s, not a string", what, printable.Short(string(raw), 20))
	}
	return rawjson.Text(raw), nil
}

// elements returns the values in the array that a value is to be. what is its name in an error.
func elements(what string, raw json.RawMessage) (all []json.RawMessage, err error) {
	if raw[0] != '[' {
		return nil, fmt.Errorf("%s is %s, not an array", what, printable.Short(string(raw), 20))
	}
	rawjson.Elements(raw, func(value []byte) bool {
		all = append(all, value)
		return true
	})
	return all, nil
}

// given reports whether there is a value, be it null.
func given(raw json.RawMessage) bool { return raw != nil }

// present reports whether there is a value that is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// word returns a string, or the text of a number; "" for anything else.
func word(raw json.RawMessage) string {
	if !present(raw) || raw[0] == '{' || raw[0] == '[' || raw[0] == 't' || raw[0] == 'f' {
		return ""
	}
	return rawjson.Text(raw)
}
