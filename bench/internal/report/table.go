package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// row is the cells of a line of a table.
type row []string

// table is the figures of some cases, and what has to be said about them.
type table struct {
	rows    []row
	figures int
	blind   []string // figures without an interval: why
	blinds  int      // how many they are
}

// cell returns a figure as text, and notes if it has no interval.
func (t *table) cell(f results.Figure, ok bool) string {
	if !ok {
		return "-"
	}
	t.figures++
	if f.NoInterval != nil {
		t.blinds++
		t.note(f)
	}
	return show(f)
}

func (t *table) note(f results.Figure) {
	runs := "1 run has"
	if f.Runs > 1 {
		runs = fmt.Sprintf("%d runs have", f.Runs)
	}
	if note := fmt.Sprintf("%s no interval: %v.", runs, f.NoInterval); !slices.Contains(t.blind, note) {
		t.blind = append(t.blind, note)
	}
}

// whole has the scenario's figures: medians, intervals, and ratios to the base.
func (s *Scenario) whole(set results.Set) *table {
	set = s.runs(set)
	head := row{"", ""}
	for _, m := range s.Metrics {
		head = append(head, m.Name)
		if m.Ratio {
			head = append(head, "of "+s.Base)
		}
	}
	t := &table{rows: []row{head}}
	for _, c := range set.Cases() {
		for _, peer := range s.Peers {
			r := row{c, peer}
			for _, m := range s.Metrics {
				r = append(r, t.cell(set.Figure(c, peer, m.Name)))
				switch {
				case !m.Ratio:
				case peer == s.Base:
					r = append(r, "1")
				default:
					r = append(r, t.cell(set.Ratio(c, peer, s.Base, m.Name)))
				}
			}
			t.rows = append(t.rows, r)
		}
	}
	return t
}

// part has some cases, those whose names end alike, and some metrics, of the scenario's own peer.
func (s *Scenario) part(set results.Set, cases string, metrics []string) *table {
	set = s.runs(set)
	t := &table{rows: []row{append(row{""}, metrics...)}}
	for _, c := range set.Cases() {
		if !strings.HasSuffix(c, cases) {
			continue
		}
		r := row{c}
		for _, m := range metrics {
			r = append(r, t.cell(set.Figure(c, s.own(), m)))
		}
		t.rows = append(t.rows, r)
	}
	return t
}

// beside has the medians of a figure of several peers, as cells of a row.
func (s *Scenario) beside(set results.Set, c, metric string, peers []string) (string, error) {
	set = s.runs(set)
	if len(set) > 0 && !slices.Contains(set.Cases(), c) {
		return "", fmt.Errorf("%s has no case %q", s.Name, c)
	}
	var r row
	for _, peer := range peers {
		f, ok := set.Figure(c, peer, metric)
		if !ok {
			r = append(r, "–")
			continue
		}
		r = append(r, median(f, number))
	}
	return strings.Join(r, " | "), nil
}

// blind says once for a page which scenarios have figures without an interval, "" if none has.
func blind(scenarios []*Scenario, set results.Set) string {
	var all, some []string
	for _, s := range scenarios {
		figures, blinds := s.sight(set)
		switch blinds {
		case 0:
		case figures:
			all = append(all, s.Title)
		default:
			some = append(some, s.Title)
		}
	}
	var parts []string
	if len(all) > 0 {
		parts = append(parts, "all of "+strings.Join(all, "; "))
	}
	if len(some) > 0 {
		parts = append(parts, "some of "+strings.Join(some, "; "))
	}
	if len(parts) == 0 {
		return ""
	}
	return "These figures have no interval, for there were too few rounds that gave one: " + strings.Join(parts, ", and ") + "."
}

// sight returns how many figures pages show of the scenario, and how many of these have no interval.
func (s *Scenario) sight(set results.Set) (figures, blinds int) {
	t := s.whole(set)
	figures, blinds = t.figures, t.blinds
	for _, v := range s.Verdicts(set) {
		if v.figure != "" {
			figures++
		}
		if v.Outcome != v.Outcome.sighted() {
			blinds++
		}
	}
	return figures, blinds
}

// Text is the scenario's figures and verdicts for a terminal.
func (s *Scenario) Text(set results.Set) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	t := s.whole(set)
	for _, r := range t.rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // to a string
	for _, note := range t.blind {
		fmt.Fprintln(&out, note)
	}
	for _, v := range s.Verdicts(set) {
		fmt.Fprintf(&out, "%s: %s\n", v.Target, v.text())
	}
	return out.String()
}

// show is a figure with its interval, if it has one.
func show(f results.Figure) string { return showBy(f, number) }

func showBy(f results.Figure, number func(float64) string) string {
	low, high, ok := f.Spread()
	if !ok || number(low) == number(high) {
		return median(f, number)
	}
	return fmt.Sprintf("%s (%s to %s)", number(f.Median), number(low), number(high))
}

// median is a figure without its interval.
func median(f results.Figure, number func(float64) string) string {
	if f.Bound && f.Median < results.Never {
		return "> " + number(f.Median)
	}
	return number(f.Median)
}

// number has three digits that count, or two where it is small.
func number(v float64) string {
	switch {
	case v >= results.Never:
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
	return fmt.Sprintf("%.2g", v)
}

// markdown writes a table, the first row being its head.
func markdown(rows []row) string {
	var out strings.Builder
	for i, r := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(r, " | "))
		if i == 0 {
			fmt.Fprintf(&out, "|%s\n", strings.Repeat(" --- |", len(r)))
		}
	}
	return strings.TrimRight(out.String(), "\n")
}
