package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"text/template"
)

const docs = "../docs"

var (
	//go:embed performance.md.tmpl
	performance string
	//go:embed scaling.md.tmpl
	scaling string
)

// writeDocuments writes what the results say.
func writeDocuments(rs results) error {
	if err := os.MkdirAll(filepath.Join(docs, "performance"), 0o755); err != nil {
		return err
	}
	for _, s := range scenarios {
		if err := s.plots(rs); err != nil {
			return err
		}
	}
	if err := writeTemplate("performance.md", performance, rs.without("scale")); err != nil {
		return err
	}
	return writeTemplate("scaling.md", scaling, rs.of("scale"))
}

func writeTemplate(name, text string, rs results) error {
	t, err := template.New(name).Funcs(template.FuncMap{
		"scenario": func(name string) (string, error) {
			s, err := choose(name)
			if err != nil {
				return "", err
			}
			return s[0].markdown(rs), nil
		},
		"part": func(name, cases string, metrics ...string) (string, error) {
			s, err := choose(name)
			if err != nil {
				return "", err
			}
			return s[0].part(rs, cases, metrics), nil
		},
		"targets":        func() string { return targets(rs) },
		"machine":        machine,
		"scaleEndpoints": func() int { return scaleEndpoints },
		"date": func() string {
			last := ""
			for _, r := range rs {
				last = max(last, r.At.Format("2006-01-02"))
			}
			return last
		},
	}).Parse(text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, nil); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, name), out.Bytes(), 0o644)
}

// machine says what the run was made on.
func machine() string {
	model := ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = ", " + strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %d cores%s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version())
}

// row is what one peer has to show in one case.
type row []string

// table has the scenario's figures: median, spread, and ratio to the base.
func (s *scenario) table(rs results) []row {
	rs = rs.of(s.name)
	head := row{"", ""}
	for _, m := range s.metrics {
		head = append(head, m.name)
		if m.ratio {
			head = append(head, "of "+s.base)
		}
	}
	rows := []row{head}
	for _, c := range rs.cases() {
		for _, peer := range s.peers {
			r := row{c, peer}
			for _, m := range s.metrics {
				f, ok := rs.figure(c, peer, m.name)
				r = append(r, show(f, ok))
				if m.ratio {
					f, ok := rs.ratio(c, peer, s.base, m.name)
					if peer == s.base {
						r = append(r, "1")
					} else {
						r = append(r, show(f, ok))
					}
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// show is a figure with its spread, if it has one.
func show(f figure, ok bool) string {
	switch {
	case !ok:
		return "-"
	case f.cut:
		return "> " + number(f.low)
	case f.low == f.high || number(f.low) == number(f.high):
		return number(f.median)
	}
	return fmt.Sprintf("%s (%s to %s)", number(f.median), number(f.low), number(f.high))
}

// number has three digits that count.
func number(v float64) string {
	switch {
	case v >= never:
		return "never"
	case v == math.Trunc(v) && math.Abs(v) < 1e6:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// text is for a terminal.
func (s *scenario) text(rs results) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, r := range s.table(rs) {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // to a string
	for _, v := range s.verdicts(rs) {
		fmt.Fprintf(&out, "%s: %s\n", v.text, v.outcome())
	}
	return out.String()
}

// markdown is the scenario's part of the document.
func (s *scenario) markdown(rs results) string {
	var out strings.Builder
	fmt.Fprintf(&out, "## %s\n\n`make bench SCENARIO=%s`. %s\n\n", strings.ToUpper(s.title[:1])+s.title[1:], s.name, s.about)
	writeRows(&out, s.table(rs))
	out.WriteByte('\n')
	for _, p := range s.plotted(rs.of(s.name)) {
		fmt.Fprintf(&out, "![%s](performance/%s)\n", p.title, p.file)
	}
	return strings.TrimRight(out.String(), "\n")
}

// part is a table of some cases, those whose names end alike, and some metrics.
func (s *scenario) part(rs results, cases string, metrics []string) string {
	rs = rs.of(s.name)
	rows := []row{append(row{""}, metrics...)}
	for _, c := range rs.cases() {
		if !strings.HasSuffix(c, cases) {
			continue
		}
		r := row{c}
		for _, m := range metrics {
			r = append(r, show(rs.figure(c, s.peers[0], m)))
		}
		rows = append(rows, r)
	}
	var out strings.Builder
	writeRows(&out, rows)
	return strings.TrimRight(out.String(), "\n")
}

// writeRows writes a table, the first row being its head.
func writeRows(out *strings.Builder, rows []row) {
	for i, r := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(r, " | "))
		if i == 0 {
			fmt.Fprintf(out, "|%s\n", strings.Repeat(" --- |", len(r)))
		}
	}
}

// verdict is whether a target is reached.
type verdict struct {
	scenario, text, figure string
	reached                bool
}

func (v verdict) outcome() string {
	if v.reached {
		return "reached: " + v.figure
	}
	return "not reached: " + v.figure
}

func (s *scenario) verdicts(rs results) []verdict {
	rs = rs.of(s.name)
	var all []verdict
	for _, t := range s.targets {
		peer := t.peer
		if peer == "" {
			peer = peerOurs
		}
		for _, c := range rs.cases() {
			if t.c != c && t.c != "*" {
				continue
			}
			f, ok := rs.figure(c, peer, t.metric)
			text := fmt.Sprintf("%s, at most %s", t.metric, number(t.limit))
			if t.ratio {
				f, ok = rs.ratio(c, peer, s.base, t.metric)
				text = fmt.Sprintf("%s, at most %.4g of %s", t.metric, t.limit, s.base)
			}
			if c != "" {
				text = c + ": " + text
			}
			if ok {
				all = append(all, verdict{s.name, text, show(f, ok), f.median <= t.limit})
			}
		}
	}
	return all
}

// targets is the table of all targets.
func targets(rs results) string {
	var out strings.Builder
	out.WriteString("| scenario | target | |\n| --- | --- | --- |\n")
	for _, s := range scenarios {
		for i, v := range s.verdicts(rs) {
			title := ""
			if i == 0 {
				title = s.title
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", title, v.text, v.outcome())
		}
	}
	return strings.TrimRight(out.String(), "\n")
}
