package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// JSONFields names the fields of home-made JSON. A field without a name is neither written nor read.
type JSONFields struct {
	Addr     string // "host:port"; or Host and Port
	Host     string
	Port     string
	Instance string
	Version  string
	Zone     string
	Weight   string // a number, or the text of one
	Metadata string // an object of strings
	Name     string // written as the key's last segment; not read
}

// MaxField bounds the name of a field, in bytes.
const MaxField = 64

// All iterates over the fields that have a name. option is what json_layout calls the field.
func (f JSONFields) All(yield func(option, name string) bool) {
	for _, field := range []struct{ option, name string }{
		{"addr", f.Addr}, {"host", f.Host}, {"port", f.Port}, {"instance", f.Instance}, {"version", f.Version},
		{"zone", f.Zone}, {"weight", f.Weight}, {"metadata", f.Metadata}, {"name", f.Name},
	} {
		if field.name != "" && !yield(field.option, field.name) {
			return
		}
	}
}

// String returns the fields as they are written in the option json_layout.
func (f JSONFields) String() string {
	var parts []string
	for option, name := range f.All {
		parts = append(parts, fmt.Sprintf("%s: %q", option, name))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// Check returns an error if the fields are not a valid layout. Its text is a predicate: "names no address".
func (f JSONFields) Check() error {
	switch {
	case f.Addr != "" && (f.Host != "" || f.Port != ""):
		return errors.New("names addr beside host or port: want one or the other")
	case f.Addr == "" && (f.Host == "") != (f.Port == ""):
		return errors.New("names one of host and port: want both, or addr")
	case f.Addr == "" && f.Host == "":
		return errors.New("names no address: set addr, or host and port")
	}
	options := make(map[string]string)
	for option, name := range f.All {
		if other, twice := options[name]; twice {
			return fmt.Errorf("names the field %.80q for both %s and %s", name, other, option)
		}
		if len(name) > MaxField || !utf8.ValidString(name) {
			return fmt.Errorf("names a field for %s that is not at most %d bytes of UTF-8", option, MaxField)
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
	all := map[string]any{ // all fields without a name end up under ""
		f.Addr: e.Addr, f.Host: host, f.Port: number, f.Instance: e.Instance, f.Version: e.Version, f.Zone: e.Zone, f.Weight: e.Weight,
		f.Metadata: f.metadata(e), f.Name: lastSegment(key),
	}
	delete(all, "")
	return json.Marshal(all)
}

// metadata returns the metadata of e, with the version, zone and weight that have no field of their own.
func (f JSONFields) metadata(e Endpoint) map[string]string {
	all := make(map[string]string, len(e.Metadata)+3)
	maps.Copy(all, e.Metadata)
	if f.Version == "" && e.Version != "" {
		all[nameVersion] = e.Version
	}
	if f.Zone == "" && e.Zone != "" {
		all[nameZone] = e.Zone
	}
	if f.Weight == "" {
		e.addWeight(all)
	}
	return all
}

// mappedDocument holds the raw fields of home-made JSON.
type mappedDocument struct {
	addr, host, port, instance, version, zone, weight, metadata json.RawMessage
}

// decode reads home-made JSON. ok is false if the fields for the address are missing.
func (f JSONFields) decode(value []byte) (e Endpoint, ok bool, err error) {
	var d mappedDocument
	rawjson.Members(value, func(name, value []byte) bool {
		d.set(f, string(name), value)
		return true
	})
	if !present(d.addr) && (!present(d.host) || !present(d.port)) {
		return Endpoint{}, false, nil
	}
	e, err = d.read()
	return e, true, err
}

func (d *mappedDocument) set(f JSONFields, name string, value []byte) {
	switch name {
	case "":
	case f.Addr:
		d.addr = value
	case f.Host:
		d.host = value
	case f.Port:
		d.port = value
	case f.Instance:
		d.instance = value
	case f.Version:
		d.version = value
	case f.Zone:
		d.zone = value
	case f.Weight:
		d.weight = value
	case f.Metadata:
		d.metadata = value
	}
}

func (d *mappedDocument) read() (e Endpoint, err error) {
	if e.Addr, err = d.address(); err != nil {
		return Endpoint{}, err
	}
	if present(d.instance) {
		if e.Instance = word(d.instance); e.Instance == "" {
			return Endpoint{}, fmt.Errorf("the instance id is %s, neither a string nor a number", printable.Short(string(d.instance), 20))
		}
		if err := CheckInstance(e.Instance); err != nil {
			return Endpoint{}, err
		}
	}
	e.take(d.metadata)
	if text := word(d.version); text != "" {
		e.Version = text
	}
	if text := word(d.zone); text != "" {
		e.Zone = text
	}
	e.takeWeight(d.weight)
	return e, nil
}

func (d *mappedDocument) address() (string, error) {
	if present(d.addr) {
		return address(d.addr, true)
	}
	return hostPort(d.host, d.port)
}
