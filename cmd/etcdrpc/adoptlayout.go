package main

import (
	"cmp"
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// proposal is the option that describes a service in etcd, and what is to be known of it.
type proposal struct {
	key       string
	layout    endpoint.Layout // the zero value: no layout reads any entry
	homeMade  *inferred
	authority string     // "": the key gives one
	entries   []instance // as clients with the option read them
	findings  []finding
	full      func(key string) string // returns a key as etcd has it
}

// propose looks at the entries of one service.
func propose(key string, entries []entry, full func(key string) string) *proposal {
	m := infer(key, entries)
	p := &proposal{key: key, homeMade: m, full: full}
	p.choose(entries)
	reader, err := endpoint.NewReader(p.layout)
	if p.layout.IsZero() || err != nil {
		reader = m.reader // for its errors
	}
	for _, e := range entries {
		p.entries = append(p.entries, m.decode(reader, e))
	}
	return p
}

// choose sets the layout to that of most entries. In a tie, one with metadata wins, then the first by name.
func (p *proposal) choose(entries []entry) {
	counts := make(map[endpoint.Layout]int)
	for _, e := range entries {
		read := p.homeMade.decode(p.homeMade.reader, e)
		if read.err != nil { // the others' reading may be laxer
			read = decode(anyLayout, p.key, e)
		}
		if read.err == nil {
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

// isMapped reports whether the layout is home-made JSON.
func (p *proposal) isMapped() bool { return !p.layout.IsZero() && p.layout == p.homeMade.layout }

// read returns how many entries clients read. They read none of a key that none can be given.
func (p *proposal) read() int {
	n := 0
	if p.keyErr() != nil {
		return 0
	}
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
			counts[p.homeMade.name(i.layout)]++
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
