// Command reliability writes docs/measured/reliability.md: the situations of rows.go, with what the tests
// measured in them. The figures are recorded by make reliability, in figures.jsonl.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
)

func main() {
	figures := flag.String("figures", "cmd/reliability/figures.jsonl", "`file` that the tests wrote")
	out := flag.String("out", "../docs/measured/reliability.md", "`file` to write")
	flag.Parse()
	if err := run(*figures, *out); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

func run(figures, out string) error {
	recorded, err := load(figures)
	if err != nil {
		return err
	}
	doc, err := render(recorded)
	if err != nil {
		return err
	}
	return os.WriteFile(out, doc, 0o644)
}

// load reads what package report wrote.
func load(path string) ([]report.Figure, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var figures []report.Figure
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		var f report.Figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		figures = append(figures, f)
	}
	return figures, lines.Err()
}

//go:embed reliability.md.tmpl
var text string

// render writes the document. A row that nothing measured is an error, and so is a figure of no row.
func render(figures []report.Figure) ([]byte, error) {
	byRow := make(map[string][]report.Figure)
	for _, f := range figures {
		byRow[f.Row] = append(byRow[f.Row], f)
	}
	var errs []error
	tables := make(map[string]string)
	for _, part := range parts {
		tables[part.name], errs = part.table(byRow, errs)
	}
	soak := byRow["soak"]
	if len(soak) == 0 {
		errs = append(errs, errors.New("nothing was recorded of a soak"))
	}
	delete(byRow, "soak")
	tables["Proved"] = provedTable()
	for row := range byRow {
		errs = append(errs, fmt.Errorf("there are figures of a row %s, and no such row", row))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	tmpl, err := template.New("").Funcs(template.FuncMap{"worst": worst(figures)}).Parse(text)
	if err != nil {
		return nil, err
	}
	var doc bytes.Buffer
	err = tmpl.Execute(&doc, map[string]any{"Tables": tables, "Soak": measured(soak), "Runs": runs(figures)})
	return doc.Bytes(), err
}

// table is a part as Markdown. The figures that it takes are removed.
func (p part) table(figures map[string][]report.Figure, errs []error) (string, []error) {
	var s strings.Builder
	s.WriteString("| # | situation | what happens | measured | test |\n|---|---|---|---|---|\n")
	for _, row := range p.rows {
		found := figures[row.number]
		if len(found) == 0 {
			errs = append(errs, fmt.Errorf("nothing was recorded of row %s", row.number))
		}
		delete(figures, row.number)
		fmt.Fprintf(&s, "| %s | %s | %s | %s | %s |\n", row.number, row.situation, row.happens,
			strings.Join(measured(found), "<br>"), strings.Join(tests(found), "<br>"))
	}
	return s.String(), errs
}

// provedTable is provedRows as Markdown.
func provedTable() string {
	var s strings.Builder
	s.WriteString("| # | situation | what happens | tests |\n|---|---|---|---|\n")
	for _, p := range provedRows {
		fmt.Fprintf(&s, "| %s | %s | %s | `%s` |\n", p.number, p.situation, p.happens, strings.Join(p.tests, "`<br>`"))
	}
	return s.String()
}

// measured are the figures, one a label, in the order in which they came. What was measured several
// times is given as the least, the median and the most.
func measured(figures []report.Figure) []string {
	var labels []string
	values := make(map[string][]string)
	for _, f := range figures {
		if !slices.Contains(labels, f.Label) {
			labels = append(labels, f.Label)
		}
		values[f.Label] = append(values[f.Label], f.Value)
	}
	for i, label := range labels {
		labels[i] = label + ": " + spread(values[label])
	}
	return labels
}

// spread is one value where all are the same.
func spread(values []string) string {
	values = slices.Clone(values)
	slices.SortFunc(values, compare)
	least, most := values[0], values[len(values)-1]
	if least == most {
		return "**" + most + "**"
	}
	return fmt.Sprintf("%s / **%s** / %s", least, values[len(values)/2], most)
}

// worst returns a function for the template: the most that was measured under any of the names, each a row and a label.
func worst(figures []report.Figure) func(names ...string) (string, error) {
	values := make(map[string][]string)
	for _, f := range figures {
		name := f.Row + " " + f.Label
		values[name] = append(values[name], f.Value)
	}
	return func(names ...string) (string, error) {
		var found []string
		for _, name := range names {
			if len(values[name]) == 0 {
				return "", fmt.Errorf("nothing was recorded of %q", name)
			}
			found = append(found, values[name]...)
		}
		return slices.MaxFunc(found, compare), nil
	}
}

// compare orders values.
func compare(a, b string) int { return cmp.Compare(number(a), number(b)) }

// number is what values are compared by: nanoseconds, or the number itself.
func number(value string) float64 {
	if d, err := time.ParseDuration(value); err == nil && value != "0" {
		return float64(d)
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return 0
	}
	return n
}

// tests are the names of those that measured, without their subtests.
func tests(figures []report.Figure) []string {
	var names []string
	for _, f := range figures {
		name, _, _ := strings.Cut(f.Test, "/")
		if name = "`" + name + "`"; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// runs is how often the tests ran: as often as one that measures a single thing once was recorded.
func runs(figures []report.Figure) int {
	n := 0
	for _, f := range figures {
		if f.Row == "D1" {
			n++
		}
	}
	return n
}
