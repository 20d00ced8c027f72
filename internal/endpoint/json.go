package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// document is the three dialects of JSON at once, told apart by the field that has the address.
// Fields are raw, for a field of one dialect may be there in another with another type.
type document struct {
	op, addr, metadata        json.RawMessage // etcd's naming package
	endpoints, version, lower json.RawMessage // kratos, lower being its metadata
	network, address          json.RawMessage // kitex
	weight, tags              json.RawMessage
}

func decodeJSON(value []byte) (Endpoint, *Layout, error) {
	switch {
	case len(value) > MaxValue:
		return Endpoint{}, nil, fmt.Errorf("%d bytes of JSON, more than %d", len(value), MaxValue)
	case !utf8.Valid(value):
		return Endpoint{}, nil, errors.New("JSON that is not valid UTF-8")
	case !json.Valid(value):
		return Endpoint{}, nil, errors.New("malformed JSON")
	}
	var d document
	rawjson.Members(value, d.set)
	e, layout, err := d.read()
	if err == nil {
		err = e.checkPieces()
	}
	return e, layout, err
}

// read reads the document in the dialect that it is in.
func (d *document) read() (e Endpoint, layout *Layout, err error) {
	switch {
	case present(d.addr):
		e, err = d.naming()
		return e, EndpointJSON, err
	case present(d.endpoints):
		e, err = d.kratos()
		return e, Kratos, err
	case present(d.address):
		e, err = d.kitex()
		return e, Kitex, err
	}
	return Endpoint{}, nil, errors.New(`JSON with neither "Addr", "endpoints" nor "address"`)
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
	case "endpoints":
		d.endpoints = value
	case "version":
		d.version = value
	case "network":
		d.network = value
	case "address":
		d.address = value
	case "weight":
		d.weight = value
	case "tags":
		d.tags = value
	}
	return true
}

func (d *document) naming() (Endpoint, error) {
	if present(d.op) && string(d.op) != "0" {
		return Endpoint{}, fmt.Errorf("the entry is the mark of a deletion, not an endpoint: Op is %s, not 0", printable.Short(string(d.op), 20))
	}
	addr, err := address(d.addr, false)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: withPort(addr)}
	if !present(d.metadata) {
		d.metadata = d.lower
	}
	e.take(d.metadata)
	return e, nil
}

func (d *document) kratos() (Endpoint, error) {
	var endpoints []string
	if err := json.Unmarshal(d.endpoints, &endpoints); err != nil {
		return Endpoint{}, fmt.Errorf("endpoints: %w", err)
	}
	for _, endpoint := range endpoints {
		scheme, _, _ := strings.Cut(endpoint, "://")
		if scheme != "grpc" && scheme != "grpcs" {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil {
			return Endpoint{}, fmt.Errorf("endpoint %.80q is no URL", endpoint)
		}
		if err := CheckAddr(u.Host, true); err != nil {
			return Endpoint{}, err
		}
		e := Endpoint{Addr: u.Host}
		e.take(d.lower)
		if present(d.version) && string(d.version) != `""` {
			e.Version = rawjson.Text(d.version)
		}
		return e, nil
	}
	return Endpoint{}, errors.New("none of the endpoints is grpc:// or grpcs://")
}

func (d *document) kitex() (Endpoint, error) {
	if present(d.network) {
		switch network := rawjson.Text(d.network); network {
		case "", "tcp", "tcp4", "tcp6":
		default:
			return Endpoint{}, fmt.Errorf("network %.20q is not tcp", network)
		}
	}
	addr, err := address(d.address, true)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Addr: addr}
	e.take(d.tags)
	if weight, ok := parseWeight(rawjson.Text(d.weight)); ok && weight != 0 {
		e.Weight = weight
		delete(e.Metadata, nameWeight)
	}
	return e, nil
}

func address(raw json.RawMessage, needPort bool) (string, error) {
	if raw[0] != '"' {
		return "", fmt.Errorf("the address is %s, not a string", printable.Short(string(raw), 20))
	}
	addr := rawjson.Text(raw)
	return addr, CheckAddr(addr, needPort)
}

// The names under which metadata keeps Endpoint's own fields, and the one for metadata that is no
// object.
const (
	nameVersion  = "version"
	nameZone     = "zone"
	nameWeight   = "weight"
	nameMetadata = "metadata"
)

// take fills e from metadata, which is JSON of any kind.
func (e *Endpoint) take(metadata json.RawMessage) {
	switch {
	case !present(metadata):
	case metadata[0] == '{':
		rawjson.Members(metadata, e.set)
	default:
		e.Metadata = map[string]string{nameMetadata: string(metadata)}
	}
}

// set takes one value of the metadata, into the field that it is meant for where there is one. It
// reports whether it wants the next.
func (e *Endpoint) set(rawName, raw []byte) bool {
	name, value := string(rawName), rawjson.Text(raw)
	var weight uint32
	var number bool
	if name == nameWeight { // what fails to parse costs an error
		weight, number = parseWeight(value)
	}
	switch {
	case !present(raw) && (name == nameVersion || name == nameZone || name == nameWeight):
	case name == nameVersion:
		e.Version = value
	case name == nameZone:
		e.Zone = value
	case name == nameWeight && number:
		e.Weight = weight
		delete(e.Metadata, nameWeight)
	default:
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata[name] = value
		if name == nameWeight {
			e.Weight = 0
		}
	}
	return len(e.Metadata) <= MaxMetadata
}

// present reports whether there is a value that is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }
