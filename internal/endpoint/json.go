package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
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
	members(value, d.set)
	switch {
	case present(d.addr):
		e, err := d.naming()
		return e, EndpointJSON, err
	case present(d.endpoints):
		e, err := d.kratos()
		return e, Kratos, err
	case present(d.address):
		e, err := d.kitex()
		return e, Kitex, err
	}
	return Endpoint{}, nil, errors.New(`JSON with neither "Addr", "endpoints" nor "address"`)
}

func (d *document) set(name, value []byte) {
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
}

func (d *document) naming() (Endpoint, error) {
	if present(d.op) && string(d.op) != "0" {
		return Endpoint{}, fmt.Errorf("the entry is the mark of a deletion, not an endpoint: Op is %.20s, not 0", d.op)
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
			e.Version = text(d.version)
		}
		return e, nil
	}
	return Endpoint{}, errors.New("none of the endpoints is grpc:// or grpcs://")
}

func (d *document) kitex() (Endpoint, error) {
	if present(d.network) {
		switch network := text(d.network); network {
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
	if weight, ok := parseWeight(text(d.weight)); ok && weight != 0 {
		e.Weight = weight
		delete(e.Metadata, nameWeight)
	}
	return e, nil
}

func address(raw json.RawMessage, needPort bool) (string, error) {
	if raw[0] != '"' {
		return "", fmt.Errorf("the address is %.20s, not a string", raw)
	}
	addr := text(raw)
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
		members(metadata, e.set)
	default:
		e.Metadata = map[string]string{nameMetadata: string(metadata)}
	}
}

// set takes one value of the metadata, into the field that it is meant for where there is one.
func (e *Endpoint) set(rawName, raw []byte) {
	name, value := string(rawName), text(raw)
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
}

// present tells whether there is a value and it is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// text is a JSON string's content, and the JSON text of anything else.
func text(raw json.RawMessage) string {
	if len(raw) == 0 || raw[0] != '"' {
		return string(raw)
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw) // cannot be: it has been found valid
	}
	return s
}

// members calls yield for each member of a JSON object, which must have been found valid. It is
// there for speed: a list of 10,000 endpoints is decoded at once, and encoding/json takes four
// times as long.
func members(object []byte, yield func(name, value []byte)) {
	rest := skipSpace(object)[1:]
	for {
		rest = skipSpace(rest)
		switch rest[0] {
		case '}':
			return
		case ',':
			rest = skipSpace(rest[1:])
		}
		n := valueLen(rest)
		name := rest[1 : n-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(text(rest[:n]))
		}
		rest = skipSpace(skipSpace(rest[n:])[1:])
		n = valueLen(rest)
		yield(name, rest[:n:n])
		rest = rest[n:]
	}
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// valueLen is the length of the JSON value that valid JSON begins with.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of what a number or a word is in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}
