package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// inferred is the json_layout that the home-made JSON of a service seems to have. etcd does not hold the one of the proto.
type inferred struct {
	key    string
	fields endpoint.JSONFields
	rivals []string        // other fields that hold addresses
	layout endpoint.Layout // the zero value: the fields make none
	reader endpoint.Reader // of all layouts, and of this one
}

// infer looks at the entries of one service.
func infer(key string, entries []entry) *inferred {
	var objects [][]byte
	for _, e := range entries {
		if isHomeMade(key, e) {
			objects = append(objects, e.value)
		}
	}
	m := &inferred{key: key, reader: anyLayout}
	m.fields, m.rivals = inferFields(key, objects)
	layout := endpoint.MappedJSON(m.fields)
	if r, err := endpoint.NewReader(endpoint.LeaseSuffix, layout); err == nil {
		m.layout, m.reader = layout, r
	}
	return m
}

// decode reads an entry as clients with the reader do. An entry is in the home-made layout if it is home-made and has the
// fields of the address, whatever known format it resembles.
func (m *inferred) decode(r endpoint.Reader, e entry) instance {
	read := decode(r, m.key, e)
	if read.err != nil || r.JSON.IsZero() || !isObject(e.value) {
		return read
	}
	if !isHomeMade(m.key, e) {
		read.layout = decode(anyLayout, m.key, e).layout
	} else if m.holdsAddress(e.value) {
		read.layout = m.layout
	}
	return read
}

// holdsAddress reports whether an object has the fields of the address.
func (m *inferred) holdsAddress(object []byte) bool {
	c := columnsOf([][]byte{object})
	has := func(name string) bool {
		return name != "" && c.count(name, func(value json.RawMessage) bool { return value[0] != 'n' }) > 0
	}
	return has(m.fields.Addr) || has(m.fields.Host) && has(m.fields.Port)
}

// name returns what people call a layout, "" for none.
func (m *inferred) name(layout endpoint.Layout) string {
	switch layout {
	case endpoint.Layout{}:
		return ""
	case m.layout:
		return "json_layout"
	}
	return layout.String()
}

// readHomeMade reads the entries that clients read only with a json_layout, by the one that they seem to have.
func (s *service) readHomeMade() {
	all := slices.Concat(s.instances, s.malformed)
	if !slices.ContainsFunc(all, s.wantsJSONLayout) {
		return
	}
	entries := make([]entry, len(all))
	for n, i := range all {
		entries[n] = i.entry
	}
	m := infer(s.key, entries)
	if m.layout.IsZero() {
		return
	}
	s.homeMade, s.instances, s.malformed = m, nil, nil
	for _, i := range all {
		if s.wantsJSONLayout(i) {
			if read := m.decode(m.reader, i.entry); read.err == nil || i.err != nil {
				i = read
			}
		}
		if i.err == nil {
			s.instances = append(s.instances, i)
		} else {
			s.malformed = append(s.malformed, i)
		}
	}
}

// wantsJSONLayout reports whether clients without a json_layout read home-made JSON not at all, or as GoFrame's, by its key alone.
func (s *service) wantsJSONLayout(i instance) bool {
	return (i.err != nil || i.layout == endpoint.GoFrame) && isHomeMade(s.key, i.entry)
}

// isMapped reports whether an instance was read by the json_layout that was inferred.
func (s *service) isMapped(i instance) bool {
	return s.homeMade != nil && i.layout == s.homeMade.layout
}

// layoutName returns what people call the layout of an instance.
func (s *service) layoutName(i instance) string {
	if s.isMapped(i) {
		return s.homeMade.name(i.layout)
	}
	return i.layout.String()
}

// isHomeMade reports whether an entry is JSON that none of the known frameworks writes, even if clients can read it.
func isHomeMade(key string, e entry) bool {
	if !isObject(e.value) || hasKnownNames(e.value) {
		return false
	}
	switch read := decode(anyLayout, key, e); read.layout {
	case endpoint.EndpointJSON, endpoint.Kitex, endpoint.Dubbo:
		return true
	case endpoint.GoFrame:
		fields, ok := columnsOf([][]byte{e.value}).address()
		return ok && (!goFrameKey(key) || repeats(fields, key, e, read.Addr))
	default:
		return read.err != nil
	}
}

// repeats reports whether the fields of an entry hold the address that is in its key. GoFrame's metadata does not.
func repeats(fields endpoint.JSONFields, key string, e entry, addr string) bool {
	r, err := endpoint.NewReader(endpoint.MappedJSON(fields))
	return err == nil && decode(r, key, e).Addr == addr
}

// hasKnownNames reports whether an object has the names of etcd's naming package, kitex or dubbo and so is theirs, be it
// well-formed or not. The others' entries have arrays, which no json_layout does.
func hasKnownNames(object []byte) bool {
	names := make(map[string]bool)
	rawjson.Members(object, func(name, _ []byte) bool {
		names[string(name)] = true
		return len(names) <= maxColumns
	})
	naming := 0
	for _, name := range []string{"Op", "Addr", "Metadata"} {
		if names[name] {
			naming++
		}
	}
	return names["Addr"] && naming == len(names) ||
		names["address"] && names["network"] ||
		names["Host"] && names["Port"] && names["ServiceName"] && names["Enable"]
}

// goFrameKey reports whether a key has GoFrame's five parts, /service/DEPLOYMENT/NAMESPACE/NAME/VERSION.
func goFrameKey(key string) bool {
	return strings.HasPrefix(key, "/service/") && strings.Count(key, "/") == 5
}
