package adopt

import (
	"cmp"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Proposal is the option that describes a service in etcd, and what is to be known of it.
type Proposal struct {
	Key       string
	Layout    endpoint.Layout // the zero value: no layout reads any entry
	homeMade  *survey.Inferred
	Authority string            // "": the key gives one
	Entries   []survey.Instance // as clients with the option read them
	Findings  []doctor.Finding
	full      func(key string) string // returns a key as etcd has it
}

// propose looks at the entries of one service.
func propose(key string, entries []survey.Entry, full func(key string) string) *Proposal {
	m := survey.Infer(key, entries)
	p := &Proposal{Key: key, homeMade: m, full: full}
	p.choose(entries)
	reader, err := endpoint.NewReader(p.Layout)
	if p.Layout.IsZero() || err != nil {
		reader = m.Reader // for its errors
	}
	for _, e := range entries {
		p.Entries = append(p.Entries, m.Decode(reader, e))
	}
	return p
}

// choose sets the layout to that of most entries. In a tie, one with metadata wins, then the first by name.
func (p *Proposal) choose(entries []survey.Entry) {
	counts := make(map[endpoint.Layout]int)
	for _, e := range entries {
		read := p.homeMade.Decode(p.homeMade.Reader, e)
		if read.Err != nil { // the others' reading may be laxer
			read = survey.Decode(survey.AnyLayout, p.Key, e)
		}
		if read.Err == nil {
			counts[read.Layout]++
		}
	}
	for layout, n := range counts {
		if p.Layout.IsZero() || n > counts[p.Layout] || n == counts[p.Layout] && before(layout, p.Layout) {
			p.Layout = layout
		}
	}
}

func before(a, b endpoint.Layout) bool {
	if a.Metadata() != b.Metadata() {
		return a.Metadata()
	}
	return cmp.Less(a.String(), b.String())
}

// IsMapped reports whether the layout is home-made JSON.
func (p *Proposal) IsMapped() bool { return !p.Layout.IsZero() && p.Layout == p.homeMade.Layout }

// Read returns how many entries clients read. They read none of a key that none can be given.
func (p *Proposal) Read() int {
	n := 0
	if p.keyErr() != nil {
		return 0
	}
	for _, i := range p.Entries {
		if i.Err == nil {
			n++
		}
	}
	return n
}

// layouts counts the entries of each layout.
func (p *Proposal) layouts() map[string]int {
	counts := make(map[string]int)
	for _, i := range p.Entries {
		if i.Err == nil {
			counts[p.homeMade.Name(i.Layout)]++
		}
	}
	return counts
}
