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

// address reads an address from one field.
func address(raw json.RawMessage, needPort bool) (string, error) {
	if raw[0] != '"' {
		return "", fmt.Errorf("the address is %s, not a string", printable.Short(string(raw), 20))
	}
	addr := rawjson.Text(raw)
	return addr, CheckAddr(addr, needPort)
}

// hostPort reads an address from two fields.
func hostPort(host, port json.RawMessage) (string, error) {
	if host[0] != '"' {
		return "", fmt.Errorf("the host is %s, not a string", printable.Short(string(host), 20))
	}
	addr := net.JoinHostPort(word(host), word(port))
	return addr, CheckAddr(addr, true)
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
