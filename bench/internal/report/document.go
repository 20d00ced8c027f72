package report

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"text/template"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// PlotsDir is where the plots are, beside the documents.
const PlotsDir = "performance"

// A Document is a page of text with figures between.
type Document struct {
	Name, Template string
	Data           any // for the template
}

// Files renders the documents and all plots, by their paths. The same results give the same bytes.
func Files(documents []Document, scenarios []*Scenario, set results.Set) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, s := range scenarios {
		if err := s.check(); err != nil {
			return nil, err
		}
		for _, p := range s.charts(set) {
			svg, err := p.svg()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.file, err)
			}
			files[path.Join(PlotsDir, p.file)] = svg
		}
	}
	shown := make(map[*Scenario]bool)
	for i, d := range documents {
		p := &page{scenarios: scenarios, set: set, shown: shown}
		for _, s := range scenarios {
			if s.Page == d.Name || s.Page == "" && i == 0 {
				p.own = append(p.own, s)
			}
		}
		p.visible = p.own
		if strings.Contains(d.Template, "{{missed}}") {
			p.visible = scenarios
		}
		text, err := p.render(d)
		if err != nil {
			return nil, err
		}
		files[d.Name] = text
	}
	for _, s := range scenarios {
		if !shown[s] {
			return nil, fmt.Errorf("no document shows the scenario %s", s.Name)
		}
	}
	return files, nil
}

// page is a document in the making.
type page struct {
	scenarios []*Scenario // all that there are
	own       []*Scenario // those that the document is to show
	visible   []*Scenario // those of which it has figures, if only beside targets
	set       results.Set
	shown     map[*Scenario]bool
}

func (p *page) render(d Document) ([]byte, error) {
	t, err := template.New(d.Name).Funcs(template.FuncMap{
		"scenario": func(name string) (string, error) {
			s, err := p.find(name)
			if err != nil {
				return "", err
			}
			p.shown[s] = true
			return s.section(p.set), nil
		},
		"part": func(name, cases string, metrics ...string) (string, error) {
			s, err := p.find(name)
			if err != nil {
				return "", err
			}
			p.shown[s] = true
			return markdown(s.part(p.set, cases, metrics).rows), nil
		},
		"beside": func(name, c, metric string, peers ...string) (string, error) {
			s, err := p.find(name)
			if err != nil {
				return "", err
			}
			return s.beside(p.set, c, metric, peers)
		},
		"missed":     func() string { return missed(p.scenarios, p.set) },
		"reached":    func() string { return targets(p.scenarios, p.set, true) },
		"measured":   p.measured,
		"confidence": func() string { return confidence },
	}).Parse(d.Template)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, d.Data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// measured says when and on what the page's scenarios were measured, and which of its figures have no interval.
func (p *page) measured() string {
	text := measured(p.own, p.set)
	if note := blind(p.visible, p.set); note != "" {
		text += "\n\n" + note
	}
	return text
}

func (p *page) find(name string) (*Scenario, error) {
	for _, s := range p.scenarios {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("there is no scenario %q", name)
}

// section is the scenario's part of the document that shows it whole.
func (s *Scenario) section(set results.Set) string {
	var out strings.Builder
	fmt.Fprintf(&out, "## %s\n\n`make bench SCENARIO=%s`. %s\n\n", s.heading(), s.Name, s.About)
	out.WriteString(markdown(s.whole(set).rows) + "\n\n")
	for _, p := range s.charts(set) {
		fmt.Fprintf(&out, "![%s](%s)\n", p.title, path.Join(PlotsDir, p.file))
	}
	return strings.TrimRight(out.String(), "\n")
}

// occasion is a day and a machine on which something was measured.
type occasion struct{ day, machine string }

func (o occasion) String() string {
	if o.machine == "" {
		return o.day + ", on a machine that was not recorded"
	}
	return o.day + ", " + o.machine
}

// measured says when and on what the scenarios were measured, each if not all were at once.
func measured(scenarios []*Scenario, set results.Set) string {
	var occasions []occasion
	titles := make(map[occasion][]string)
	for _, s := range scenarios {
		runs := s.runs(set)
		if len(runs) == 0 {
			continue
		}
		last := runs[len(runs)-1]
		o := occasion{last.At.UTC().Format("2006-01-02"), last.Machine}
		if titles[o] == nil {
			occasions = append(occasions, o)
		}
		titles[o] = append(titles[o], s.Title)
	}
	switch len(occasions) {
	case 0:
		return "Nothing has been measured yet."
	case 1:
		return fmt.Sprintf("Measured on %v.", occasions[0])
	}
	lines := []string{"Not all was measured on one day and one machine:\n"}
	for _, o := range occasions {
		lines = append(lines, fmt.Sprintf("- on %v: %s.", o, strings.Join(titles[o], "; ")))
	}
	return strings.Join(lines, "\n")
}

// confidence is that of intervals, as a reader writes it.
var confidence = fmt.Sprintf("%.0f %%", results.Confidence*100)
