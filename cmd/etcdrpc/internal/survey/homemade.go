package survey

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

var errSuffix = errors.New("the lease id follows the key without a slash, which clients read only if the option has LAYOUT_LEASE_SUFFIX")

// Decode reads one entry of a service.
func Decode(r endpoint.Reader, key string, e Entry) Instance {
	read, layout, ok, err := r.Decode(key, e.Key, e.Value, e.Lease)
	if !ok {
		err = errStray(e)
		if _, _, ok, _ := AnyLayout.Decode(key, e.Key, e.Value, e.Lease); ok {
			err = errSuffix
		}
	}
	return instanceOf(e, read, layout, err)
}

// Inferred is the json_layout that the home-made JSON of a service seems to have. etcd does not hold the one of the proto.
type Inferred struct {
	key    string
	Fields endpoint.JSONFields
	Rivals []string        // other fields that hold addresses
	Layout endpoint.Layout // the zero value: the fields make none
	Reader endpoint.Reader // of all layouts, and of this one
}

// Infer looks at the entries of one service.
func Infer(key string, entries []Entry) *Inferred {
	var objects [][]byte
	for _, e := range entries {
		if isHomeMade(key, e) {
			objects = append(objects, e.Value)
		}
	}
	m := &Inferred{key: key, Reader: AnyLayout}
	m.Fields, m.Rivals = inferFields(key, objects)
	layout := endpoint.MappedJSON(m.Fields)
	if r, err := endpoint.NewReader(endpoint.LeaseSuffix, layout); err == nil {
		m.Layout, m.Reader = layout, r
	}
	return m
}

// Decode reads an entry as clients with the reader do. An entry is in the home-made layout if it is home-made and has the
// fields of the address, whatever known format it resembles.
func (m *Inferred) Decode(r endpoint.Reader, e Entry) Instance {
	read := Decode(r, m.key, e)
	if read.Err != nil || r.JSON.IsZero() || !IsObject(e.Value) {
		return read
	}
	if !isHomeMade(m.key, e) {
		read.Layout = Decode(AnyLayout, m.key, e).Layout
	} else if m.holdsAddress(e.Value) {
		read.Layout = m.Layout
	}
	return read
}

// holdsAddress reports whether an object has the fields of the address.
func (m *Inferred) holdsAddress(object []byte) bool {
	c := columnsOf([][]byte{object})
	has := func(name string) bool {
		return name != "" && c.count(name, func(value json.RawMessage) bool { return value[0] != 'n' }) > 0
	}
	return has(m.Fields.Addr) || has(m.Fields.Host) && has(m.Fields.Port)
}

// Name returns what people call a layout, "" for none.
func (m *Inferred) Name(layout endpoint.Layout) string {
	switch layout {
	case endpoint.Layout{}:
		return ""
	case m.Layout:
		return "json_layout"
	}
	return layout.String()
}

// readHomeMade reads the entries in home-made JSON by the json_layout that they seem to have, if that says more of one than clients
// know without it.
func (s *Service) readHomeMade() {
	all := slices.Concat(s.Instances, s.Malformed)
	entries := make([]Entry, len(all))
	for n, i := range all {
		entries[n] = i.Entry
	}
	m := Infer(s.Key, entries)
	if m.Layout.IsZero() {
		return
	}
	reads, more := slices.Clone(all), false
	for n, i := range all {
		if isHomeMade(s.Key, i.Entry) {
			reads[n] = m.Decode(m.Reader, i.Entry)
			more = more || reads[n].Err == nil && !reads[n].Equal(i.Endpoint)
		}
	}
	s.HomeMade, s.Instances, s.Malformed = m, nil, nil
	for n, i := range all {
		if more && reads[n].Err == nil || i.Err != nil {
			i = reads[n]
		}
		s.Take(i)
	}
}

// IsMapped reports whether an instance was read by the json_layout that was inferred.
func (s *Service) IsMapped(i Instance) bool {
	return s.HomeMade != nil && i.Layout == s.HomeMade.Layout
}

// LayoutName returns what people call the layout of an instance.
func (s *Service) LayoutName(i Instance) string {
	if s.IsMapped(i) {
		return s.HomeMade.Name(i.Layout)
	}
	return i.Layout.String()
}

// isHomeMade reports whether an entry is JSON that none of the known frameworks writes, even if clients can read it.
func isHomeMade(key string, e Entry) bool {
	if !IsObject(e.Value) || endpoint.AreTheirs(namesIn(e.Value)) {
		return false
	}
	switch read := Decode(AnyLayout, key, e); {
	case read.Layout.LikeHomeMade():
		return true
	case read.Layout == endpoint.GoFrame:
		fields, ok := columnsOf([][]byte{e.Value}).address()
		return ok && repeats(fields, key, e, read.Addr)
	default:
		return read.Err != nil
	}
}

// repeats reports whether the fields of an entry hold the address that is in its key. GoFrame's metadata does not.
func repeats(fields endpoint.JSONFields, key string, e Entry, addr string) bool {
	r, err := endpoint.NewReader(endpoint.MappedJSON(fields))
	return err == nil && Decode(r, key, e).Addr == addr
}

// namesIn returns the names of an object's fields, or of as many of them as are looked at.
func namesIn(object []byte) map[string]bool {
	names := make(map[string]bool)
	rawjson.Members(object, func(name, _ []byte) bool {
		names[string(name)] = true
		return len(names) <= maxColumns
	})
	return names
}
