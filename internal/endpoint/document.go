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

func (d *document) set(name, value []byte) bool {
	switch string(name) {
	case "Op", "op":
		d.op = value
	case "Addr", "addr":
		d.addr = value
	case "Metadata":
		d.metadata = value
	case "metadata":
		d.lower = value
	case "version", "Version":
		d.version = value
	case "zone", "Zone":
		d.zone = value
	case "weight", "Weight":
		d.weight = value
	case "endpoints":
		d.endpoints = value
	case "network":
		d.network = value
	case "address":
		d.address = value
	case "tags":
		d.tags = value
	case "nodes":
		d.nodes = value
	case "Host":
		d.host = value
	case "Port":
		d.port = value
	case "Enable":
		d.enable = value
	case "Healthy":
		d.healthy = value
	}
	return true
}

// decodeJSON reads a value that is a JSON object of any dialect. instance is the last segment of the
// entry's etcd key.
func (r Reader) decodeJSON(instance string, value []byte) (e Endpoint, layout Layout, err error) {
	if r.JSON.mapped() {
		if e, ok, err := r.JSON.fields.Value().decode(value); ok {
			return e, r.JSON, inEntry(r.JSON, err)
		}
	}
	var d document
	rawjson.Members(value, d.set)
	switch {
	case present(d.addr):
		layout = EndpointJSON
		e, err = d.naming()
	case present(d.nodes):
		layout = GoMicro
		e, err = d.goMicro(instance)
	case present(d.endpoints) && d.nodes == nil: // go-micro has endpoints of its own
		layout = Kratos
		e, err = d.kratos()
	case present(d.address):
		layout = Kitex
		e, err = d.kitex()
	case present(d.host) && present(d.port):
		layout = Dubbo
		e, err = d.dubbo()
	default:
		if layout, ok := d.layout(); ok {
			return Endpoint{}, layout, inEntry(layout, errors.New("the address is null"))
		}
		if e, ok := goFrame(instance, value); ok {
			return e, GoFrame, nil
		}
		return Endpoint{}, Layout{}, r.noAddress()
	}
	return e, layout, inEntry(layout, err)
}

// inEntry adds to what is wrong with an entry which layout it is in.
func inEntry(layout Layout, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", layout.entry, err)
}

// layout returns the layout that has its address where there is anything, be it null.
func (d *document) layout() (Layout, bool) {
	switch {
	case d.addr != nil:
		return EndpointJSON, true
	case d.nodes != nil:
		return GoMicro, true
	case d.endpoints != nil:
		return Kratos, true
	case d.address != nil:
		return Kitex, true
	case d.host != nil && d.port != nil:
		return Dubbo, true
	}
	return Layout{}, false
}

// noAddress says where a value could have had an address.
func (r Reader) noAddress() error {
	own := ""
	if r.JSON.mapped() {
		own = fmt.Sprintf("nothing where json_layout %.200s has it, ", r.JSON)
	}
	return errors.New("JSON that names no address: " + own + "no Addr (etcd), nodes (go-micro), endpoints (kratos), " +
		"address (kitex) or Host and Port (dubbo), nor is it flat under a key that ends in host:port (GoFrame)")
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

// present reports whether there is a value that is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// word returns a string, or the text of a number; "" for anything else.
func word(raw json.RawMessage) string {
	if !present(raw) || raw[0] == '{' || raw[0] == '[' || raw[0] == 't' || raw[0] == 'f' {
		return ""
	}
	return rawjson.Text(raw)
}
