package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// document is the dialects of JSON at once, told apart by the fields that have the address. Fields are
// raw, for a field of one dialect may be there in another with another type.
type document struct {
	op, addr, metadata    json.RawMessage // etcd's naming package
	version, zone, weight json.RawMessage // in either case
	endpoints, lower      json.RawMessage // kratos, lower being its metadata
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

// decodeJSON reads the value of an entry that is a JSON object, in the dialect that it is in. instance
// is what the entry's key ends in.
func (r Reader) decodeJSON(instance string, value []byte) (e Endpoint, layout Layout, err error) {
	if r.JSON.mapped() {
		if e, ok, err := r.JSON.fields.Value().decode(value); ok {
			return e, r.JSON, err
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
	case present(d.endpoints):
		layout = Kratos
		e, err = d.kratos()
	case present(d.address):
		layout = Kitex
		e, err = d.kitex()
	case present(d.host) && present(d.port):
		layout = Dubbo
		e, err = d.dubbo()
	default:
		if e, ok := goFrame(instance, value); ok {
			return e, GoFrame, nil
		}
		return Endpoint{}, Layout{}, errors.New("JSON that names no address: no Addr (etcd), nodes (go-micro), endpoints (kratos), " +
			"address (kitex) or Host and Port (dubbo), nor is it flat under a key that ends in host:port (GoFrame)")
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", layout.entry, err)
	}
	return e, layout, err
}

// address returns the address in a field.
func address(raw json.RawMessage, needPort bool) (string, error) {
	if raw[0] != '"' {
		return "", fmt.Errorf("the address is %s, not a string", printable.Short(string(raw), 20))
	}
	addr := rawjson.Text(raw)
	return addr, CheckAddr(addr, needPort)
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
