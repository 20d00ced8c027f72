package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// proposal is how a service that is in etcd may be written down in a proto.
type proposal struct {
	key       string
	layout    endpoint.Layout     // the zero value: no layout reads any entry
	fields    endpoint.JSONFields // of home-made JSON
	rivals    []string            // fields of it that hold addresses as well
	authority string              // "" the key gives one
	entries   []instance          // as clients read them who go by the proposal
	findings  []finding
}

// propose looks at the entries of one service.
func propose(key string, entries []entry) *proposal {
	p := &proposal{key: key}
	var objects [][]byte
	made := make([]bool, len(entries))
	for i, e := range entries {
		if made[i] = isHomeMade(key, e); made[i] {
			objects = append(objects, e.value)
		}
	}
	p.fields, p.rivals = inferFields(key, objects)
	mapped, err := endpoint.NewReader(endpoint.LeaseSuffix, endpoint.MappedJSON(p.fields))
	if err != nil { // the fields make no layout
		mapped = anyLayout
	}
	p.choose(entries, func(i int) instance {
		if made[i] {
			if read := decode(mapped, key, entries[i]); read.err == nil {
				return read
			}
		}
		return decode(anyLayout, key, entries[i])
	})
	reader, err := endpoint.NewReader(p.layout)
	if p.layout.IsZero() || err != nil {
		reader = mapped // for what it says of the entries
	}
	for _, e := range entries {
		p.entries = append(p.entries, decode(reader, key, e))
	}
	return p
}

// choose takes the layout of most entries. Of equal ones it is one with metadata, and then the first by name.
func (p *proposal) choose(entries []entry, read func(i int) instance) {
	counts := make(map[endpoint.Layout]int)
	for i := range entries {
		if read := read(i); read.err == nil {
			counts[read.layout]++
		}
	}
	for layout, n := range counts {
		if p.layout.IsZero() || n > counts[p.layout] || n == counts[p.layout] && before(layout, p.layout) {
			p.layout = layout
		}
	}
}

func before(a, b endpoint.Layout) bool {
	if a.Metadata() != b.Metadata() {
		return a.Metadata()
	}
	return cmp.Less(a.String(), b.String())
}

// homeMade reports whether the layout is home-made JSON.
func (p *proposal) homeMade() bool { return p.layout == endpoint.MappedJSON(p.fields) }

// layoutName is a layout as a proposal calls it; "" is for none.
func (p *proposal) layoutName(layout endpoint.Layout) string {
	switch layout {
	case endpoint.Layout{}:
		return ""
	case endpoint.MappedJSON(p.fields):
		return "json_layout"
	}
	return layout.String()
}

// read returns how many entries clients read.
func (p *proposal) read() int {
	n := 0
	for _, i := range p.entries {
		if i.err == nil {
			n++
		}
	}
	return n
}

// layouts counts the entries of each layout.
func (p *proposal) layouts() map[string]int {
	counts := make(map[string]int)
	for _, i := range p.entries {
		if i.err == nil {
			counts[p.layoutName(i.layout)]++
		}
	}
	return counts
}

var errSuffix = errors.New("the lease id follows the key without a slash, which clients read only where the option has LAYOUT_LEASE_SUFFIX")

// decode reads one entry of a service, whose key begins with the service's.
func decode(r endpoint.Reader, key string, e entry) instance {
	read, layout, ok, err := r.Decode(key, e.key, e.value, e.lease)
	if !ok {
		err = errStray(e)
		if _, _, ok, _ := anyLayout.Decode(key, e.key, e.value, e.lease); ok {
			err = errSuffix
		}
	}
	if err != nil {
		return instance{Endpoint: endpoint.Endpoint{Instance: e.name()}, entry: e, err: err}
	}
	return instance{Endpoint: read, layout: layout, entry: e}
}

// isHomeMade reports whether an entry is JSON that none of the known writers spells so, even if clients know how to
// read it.
func isHomeMade(key string, e entry) bool {
	if !isObject(e.value) {
		return false
	}
	read := decode(anyLayout, key, e)
	names := make(map[string]bool)
	rawjson.Members(e.value, func(name, _ []byte) bool {
		names[string(name)] = true
		return len(names) <= maxColumns
	})
	switch read.layout {
	case endpoint.EndpointJSON:
		for name := range names {
			if !slices.Contains([]string{"Op", "Addr", "Metadata"}, name) {
				return true
			}
		}
		return false
	case endpoint.Kitex:
		return !names["network"]
	case endpoint.Dubbo:
		return !names["ServiceName"] || !names["Enable"]
	case endpoint.GoFrame:
		_, ok := columnsOf([][]byte{e.value}).address()
		return ok && !goFrameKey(key)
	}
	return read.err != nil
}

// goFrameKey reports whether a key has the five parts of GoFrame's: /service/DEPLOYMENT/NAMESPACE/NAME/VERSION.
func goFrameKey(key string) bool {
	return strings.HasPrefix(key, "/service/") && strings.Count(key, "/") == 5
}

// groupEntries finds the services among the entries of a prefix. elsewhere are the keys of services that begin with less
// than the prefix, of whose entries some begin with it.
func groupEntries(prefix string, entries []entry) (groups map[string][]entry, elsewhere []string) {
	groups = make(map[string][]entry)
	prefix = strings.TrimSuffix(prefix, "/")
	others := make(map[string]bool)
	suffixed := suffixedKeys(entries)
	for _, e := range entries {
		if strings.HasPrefix(e.key, configPrefix) {
			continue
		}
		key := ownerOf(e)
		if stem, ok := strayStem(e, suffixed); ok && (suffixed[stem] || len(key) < len(prefix) || key == "") {
			key = stem
		}
		if key == "" || !strings.HasPrefix(key, prefix) {
			others[key] = true
			continue
		}
		groups[key] = append(groups[key], e)
	}
	return groups, sortedKeys(others)
}

// suffixedKeys are the keys of services that have an entry in the lease suffix layout.
func suffixedKeys(entries []entry) map[string]bool {
	keys := make(map[string]bool)
	for _, e := range entries {
		if key := ownerOf(e); key != "" && decode(anyLayout, key, e).layout == endpoint.LeaseSuffix {
			keys[key] = true
		}
	}
	return keys
}

// strayStem returns the key of the service that an entry with a lease id in its key seems to be of, though it hangs on
// another lease or on none. That is one of known, or what is before the digits.
func strayStem(e entry, known map[string]bool) (string, bool) {
	stem := strings.TrimRight(e.key, "0123456789")
	if stem == "" || strings.HasSuffix(stem, "/") || !(&service{key: stem}).isStray(e) {
		return "", false
	}
	for n := len(e.key) - leaseDigits; n > len(stem); n-- {
		if known[e.key[:n]] {
			return e.key[:n], true
		}
	}
	return stem, true
}
