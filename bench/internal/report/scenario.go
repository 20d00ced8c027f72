// Package report makes documents, tables and plots of what was measured. It runs nothing: what a
// scenario is about is data here.
package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// Ours is the peer that scenarios are about, unless they say another.
const Ours = "this project"

// A Scenario is one thing that is measured, described for its readers.
type Scenario struct {
	Name, Title string
	About       string // what is done
	Page        string // the document that shows it by parts; "" shows it whole, in the first document

	Own     string   // the peer whose targets these are; "" is Ours
	Peers   []string // rows
	Base    string   // the peer that ratios are to; "" none
	Metrics []Metric // columns
	Targets []Target
}

// A Metric is one figure of a run.
type Metric struct {
	Name  string
	Ratio bool // shown beside the base peer's, too
	Plot  bool
	More  bool // more of it is better
}

func (s *Scenario) own() string {
	if s.Own != "" {
		return s.Own
	}
	return Ours
}

// metric returns the metric of a name, which the scenario has.
func (s *Scenario) metric(name string) Metric {
	return s.Metrics[slices.IndexFunc(s.Metrics, func(m Metric) bool { return m.Name == name })]
}

// check finds what would otherwise go missing in silence: a misspelt name.
func (s *Scenario) check() error {
	if s.Base != "" && !slices.Contains(s.Peers, s.Base) {
		return fmt.Errorf("%s: the base %q is not a peer", s.Name, s.Base)
	}
	for _, t := range s.Targets {
		if !slices.ContainsFunc(s.Metrics, func(m Metric) bool { return m.Name == t.Metric }) {
			return fmt.Errorf("%s: a target of %q, which is not a metric", s.Name, t.Metric)
		}
		for _, peer := range t.Of {
			if !slices.Contains(s.Peers, peer) {
				return fmt.Errorf("%s: a target beside %q, which is not a peer", s.Name, peer)
			}
		}
		if t.Ahead && len(t.Of) == 0 {
			return fmt.Errorf("%s: a target of %q that is ahead of nobody", s.Name, t.Metric)
		}
	}
	return nil
}

// heading is that of the scenario's section.
func (s *Scenario) heading() string { return strings.ToUpper(s.Title[:1]) + s.Title[1:] }

// link leads from the first document to the scenario's part of a document.
func (s *Scenario) link() string {
	if s.Page != "" {
		return s.Page
	}
	return "#" + anchor(s.heading())
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// runs are those of the scenario.
func (s *Scenario) runs(set results.Set) results.Set { return set.Of(s.Name) }
