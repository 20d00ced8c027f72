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

// The columns of a frame: those of instanceHead without the service.
const (
	columnInstance = iota
	columnAddress
	columnVersion
	columnZone
	columnWeight
	columnLayout
	columnLease
	columnState
	columnCount
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
		fmt.Sprintf("%s at %s: %s (q ends)", printable.Short(key, output.MaxCell), now.Format(time.TimeOnly), output.Counted(len(rows), "instance")),
		printable.Short(cmp.Or(w.note, v.note), output.MaxText),
	}
	if len(rows) > 0 {
		lines = append(lines, frameTable(rows, from, to, w.width)...)
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
func frameTable(rows [][]string, from, to, width int) []string {
	table := [][]string{instanceHead[1:]}
	for _, row := range rows {
		cells := make([]string, columnCount)
		for i, cell := range row[1:] {
			cells[i] = printable.Short(cell, output.MaxCell)
			if cells[i] == "" {
				cells[i] = "-"
			}
		}
		table = append(table, cells)
	}
	widths := fit(table, width)
	lines := []string{tableLine(table[0], widths)}
	for _, cells := range table[1+from : 1+to] {
		lines = append(lines, tableLine(cells, widths))
	}
	return lines
}

// tableLine returns cells in columns of some widths, without those of width 0.
func tableLine(cells []string, widths []int) string {
	var parts []string
	for i, cell := range cells {
		if i == columnState {
			parts = append(parts, cell)
		} else if widths[i] > 0 {
			cell = cut(cell, widths[i])
			parts = append(parts, cell+strings.Repeat(" ", widths[i]-displaywidth.String(cell)))
		}
	}
	return strings.Join(parts, strings.Repeat(" ", gap))
}

// fit returns how wide the columns of a table are, in a line of some width. A column that is 0 wide is dropped. The state
// has the width of its longest first word; what it says after that is cut at the end of the line.
func fit(table [][]string, width int) []int {
	widths := make([]int, columnCount)
	sameAddress := true
	for n, row := range table {
		for i, cell := range row {
			if i == columnState {
				cell, _, _ = strings.Cut(cell, " ")
			}
			widths[i] = max(widths[i], displaywidth.String(cell))
		}
		sameAddress = sameAddress && (n == 0 || row[columnInstance] == row[columnAddress])
	}
	fits := func() bool {
		total := -gap
		for _, w := range widths {
			if w > 0 {
				total += w + gap
			}
		}
		return total <= width
	}
	if fits() {
		return widths
	}
	for i := range columnState {
		widths[i] = min(widths[i], max(narrow, width/4))
	}
	order := []int{columnLayout, columnWeight, columnZone, columnVersion, columnLease, columnAddress}
	if sameAddress {
		order = slices.Insert(order[:len(order)-1], 0, columnAddress)
	}
	for _, i := range order {
		if fits() {
			return widths
		}
		widths[i] = 0
	}
	if !fits() {
		widths[columnInstance] = max(0, width-gap-widths[columnState])
	}
	return widths
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
