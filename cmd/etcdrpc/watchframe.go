package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const (
	gap       = 2  // between columns
	narrow    = 15 // the width that a column is not cut below while others can be dropped
	frameHead = 3  // lines above the rows
)

// window is what of a view a terminal shows.
type window struct {
	width, height int
	offset        int // the first row
	note          string
}

// rows returns which of a number of rows are shown, and whether a line says that there are more.
func (w window) rows(total int) (from, to int, more bool) {
	room := max(w.height-frameHead, 1)
	if total <= room {
		return 0, total, false
	}
	room = max(room-1, 1)
	from = min(max(w.offset, 0), total-room)
	return from, from + room, true
}

// frame returns the lines in which a terminal shows a view. Each fits its width, and the first word of the state is whole
// in each that is as wide as that.
func frame(v *view, key string, now time.Time, w window) []string {
	rows := v.rows()
	from, to, more := w.rows(len(rows))
	lines := []string{
		fmt.Sprintf("%s at %s: %s (q ends)", printable.Short(v.full(key), output.MaxCell), now.Format(time.TimeOnly), output.Counted(len(rows), "instance")),
		printable.Short(cmp.Or(w.note, v.note), output.MaxText),
	}
	if len(rows) > 0 {
		lines = append(lines, frameTable(present(onScreen(columns), rows), rows, from, to, w.width)...)
	}
	if more {
		lines = append(lines, fmt.Sprintf("%d to %d of %d", from+1, to, len(rows)))
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(cut(line, w.width), " ")
	}
	return lines[:min(len(lines), max(w.height, 1))]
}

// frameTable returns a head and some of the rows. The columns are as wide as all rows need, so that they do not jump.
func frameTable(columns []column, rows []row, from, to, width int) []string {
	head, cells := table(columns, rows)
	for _, line := range cells {
		for i, cell := range line {
			line[i] = cmp.Or(printable.Short(cell, output.MaxCell), "-")
		}
	}
	widths := fit(columns, rows, append(cells, head), width)
	lines := []string{tableLine(head, widths)}
	for _, line := range cells[from:to] {
		lines = append(lines, tableLine(line, widths))
	}
	return lines
}

// tableLine returns cells in columns of some widths, without those of width 0. The last goes on to the end of the line.
func tableLine(cells []string, widths []int) string {
	var parts []string
	last := len(cells) - 1
	for i, cell := range cells[:last] {
		if widths[i] > 0 {
			cell = cut(cell, widths[i])
			parts = append(parts, cell+strings.Repeat(" ", widths[i]-displaywidth.String(cell)))
		}
	}
	return strings.Join(append(parts, cells[last]), strings.Repeat(" ", gap))
}

// fit returns how wide columns are, in a line of some width. A column that is 0 wide is dropped. The last has the width of
// its longest first word; what it says after that is cut at the end of the line.
func fit(columns []column, rows []row, cells [][]string, width int) []int {
	widths := make([]int, len(columns))
	last := len(columns) - 1
	for _, line := range cells {
		for i, cell := range line {
			if i == last {
				cell, _, _ = strings.Cut(cell, " ")
			}
			widths[i] = max(widths[i], displaywidth.String(cell))
		}
	}
	room := func() int {
		total := -gap
		for _, w := range widths {
			if w > 0 {
				total += w + gap
			}
		}
		return width - total
	}
	if room() >= 0 {
		return widths
	}
	for i := range last {
		widths[i] = min(widths[i], max(narrow, width/4))
	}
	for _, i := range dropOrder(columns, rows) {
		if room() >= 0 {
			return widths
		}
		widths[i] = 0
	}
	first := slices.IndexFunc(columns, func(c column) bool { return c.rank == kept })
	widths[first] = max(0, widths[first]+min(0, room()))
	return widths
}

// dropOrder returns the columns that may be dropped, by their indices, in the order in which they are.
func dropOrder(columns []column, rows []row) (order []int) {
	ranks := make([]int, len(columns))
	for i, c := range columns {
		ranks[i] = c.rank
		if c.repeats != nil && !slices.ContainsFunc(rows, func(r row) bool { return !c.repeats(&r) }) {
			ranks[i] = lsOnly // before all others
		}
		if c.rank != kept {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ranks[a], ranks[b]) })
	return order
}

// cut returns the beginning of a text that fits a width.
func cut(text string, width int) string {
	if displaywidth.String(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	return displaywidth.TruncateString(text, width, "…")
}
