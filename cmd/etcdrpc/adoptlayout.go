package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// proposal is the option that describes a service in etcd, and what is to be known of it.
type proposal struct {
	key       string
	layout    endpoint.Layout     // the zero value: no layout reads any entry
	fields    endpoint.JSONFields // of home-made JSON
	rivals    []string            // other fields of it that hold addresses
	authority string              // "": the key gives one
	entries   []instance          // as clients with the option read them
	findings  []finding
	full      func(key string) string // returns a key as etcd has it
}

// propose looks at the entries of one service.
func propose(key string, entries []entry, full func(key string) string) *proposal {
	p := &proposal{key: key, full: full}
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
		reader = mapped // for its errors
	}
	for _, e := range entries {
		p.entries = append(p.entries, decode(reader, key, e))
	}
	return p
}

// choose sets the layout to that of most entries. In a tie, one with metadata wins, then the first by name.
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

// layoutName returns what a proposal calls a layout, "" for none.
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

var errSuffix = errors.New("the lease id follows the key without a slash, which clients read only if the option has LAYOUT_LEASE_SUFFIX")

// decode reads one entry of a service.
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

// isHomeMade reports whether an entry is JSON that none of the known frameworks writes, even if clients can read it.
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

// goFrameKey reports whether a key has GoFrame's five parts, /service/DEPLOYMENT/NAMESPACE/NAME/VERSION.
func goFrameKey(key string) bool {
	return strings.HasPrefix(key, "/service/") && strings.Count(key, "/") == 5
}
