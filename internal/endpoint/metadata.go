package endpoint

import (
	"encoding/json"
	"maps"
	"strconv"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// These are the names under which metadata keeps Endpoint's own fields, and the
// name for metadata that is not an object.
const (
	nameVersion  = "version"
	nameZone     = "zone"
	nameWeight   = "weight"
	nameMetadata = "metadata"
)

// fieldName returns the name of the Endpoint field for a piece of metadata, or
// the piece's own name if no field matches. The name may be capitalized.
func fieldName(name string) string {
	switch name {
	case "Version":
		return nameVersion
	case "Zone":
		return nameZone
	case "Weight":
		return nameWeight
	}

	return name
}

// take sets the fields of e from metadata, which is any JSON.
func (e *Endpoint) take(metadata json.RawMessage) {
	switch {
	case !present(metadata):
	case metadata[0] == '{':
		rawjson.Members(metadata, e.set)
	default:
		e.piece(nameMetadata, string(metadata))
	}
}

// piece adds a piece of metadata that belongs to no field.
func (e *Endpoint) piece(name, value string) {
	if e.Metadata == nil {
		e.Metadata = make(map[string]string)
	}

	e.Metadata[name] = value
}

// set sets the field that a piece of metadata belongs to, or adds the piece to
// the metadata. It returns whether to read the next piece.
func (e *Endpoint) set(rawName, raw []byte) bool {
	name := fieldName(string(rawName))
	value := rawjson.Text(raw)

	var weight uint32
	var number bool
	if name == nameWeight { // only for the weight: a failed parse allocates an error
		weight, number = parseWeight(value)
	}

	own := name == nameVersion || name == nameZone || name == nameWeight

	switch {
	case own && !present(raw):
	case name == nameVersion:
		e.Version = value
	case name == nameZone:
		e.Zone = value
	case number:
		e.Weight = weight
		delete(e.Metadata, nameWeight)

	default:
		e.piece(name, value)

		if name == nameWeight {
			e.Weight = 0
		}
	}

	return len(e.Metadata) <= MaxMetadata
}

// takeText sets a field from a value outside the metadata. It ignores a value
// that is neither a string nor a number.
func takeText(field *string, raw json.RawMessage) {
	if text := word(raw); text != "" {
		*field = text
	}
}

// takeWeight sets the weight from a value outside the metadata. It ignores a
// value that is not a weight.
func (e *Endpoint) takeWeight(raw json.RawMessage) {
	text := word(raw)
	if text == "" { // a failed parse would allocate an error
		return
	}

	if weight, ok := parseWeight(text); ok && weight != 0 {
		e.Weight = weight
		delete(e.Metadata, nameWeight)
	}
}

func parseWeight(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// members returns the metadata with the version, zone and weight, for layouts
// whose metadata is any JSON.
func (e Endpoint) members() map[string]any {
	all := make(map[string]any, len(e.Metadata)+3)
	for name, value := range e.strings() {
		all[name] = value
	}

	if e.Weight != 0 {
		all[nameWeight] = e.Weight
	}

	return all
}

// strings returns the metadata with the version, zone and weight, for layouts
// with string metadata. A layout with its own field for the version, the zone
// or the weight clears that field of e before the call.
func (e Endpoint) strings() map[string]string {
	all := make(map[string]string, len(e.Metadata)+3)
	maps.Copy(all, e.Metadata)

	if e.Version != "" {
		all[nameVersion] = e.Version
	}

	if e.Zone != "" {
		all[nameZone] = e.Zone
	}

	if e.Weight != 0 {
		all[nameWeight] = strconv.FormatUint(uint64(e.Weight), 10)
	}

	return all
}
