// Package output writes what the commands of etcdrpc have to say. It escapes whatever could come from etcd: line feeds that
// forge lines, control characters that move the cursor, marks that turn text around.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"

	"github.com/clipperhouse/displaywidth"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Bounds of what is shown.
const (
	MaxText = 4 << 10 // bytes of a text in a line
	MaxCell = 256     // bytes of a text in a table

	maxPad    = 64 // the greatest width that the cells of a column are filled up to
	columnGap = 2
)

// Sayf writes format, with the texts among args escaped and cut. Line feeds and escape sequences can only come from
// format. It is for people, so it drops the error of the write.
func Sayf(w io.Writer, format string, args ...any) { _ = Writef(w, format, args...) }

// Writef is Sayf that returns the error of the write.
func Writef(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, shown(args)...)
	return err
}

// shown returns args with the texts among them escaped and cut.
func shown(args []any) []any {
	all := make([]any, len(args))
	for i, arg := range args {
		switch value := arg.(type) {
		case error, fmt.Stringer:
			all[i] = printable.Short(fmt.Sprint(value), MaxText)
		default:
			all[i] = arg
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String {
				all[i] = printable.Short(v.String(), MaxText)
			}
		}
	}
	return all
}

// Once returns a function that says a text on a line of its own, unless it is "" or was said last. It may be called by
// several goroutines at once.
func Once(w io.Writer) func(text string) {
	var mu sync.Mutex
	last := ""
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if text != "" && text != last {
			Sayf(w, "%s\n", text)
		}
		last = text
	}
}

// SayLines writes text of several lines, such as indented JSON, in full, and escapes each line. JSON from etcd must
// not nest without bound: indented, it would grow to hundreds of megabytes.
func SayLines(w io.Writer, text string) {
	for _, line := range Lines(text) {
		fmt.Fprintln(w, printable.Text(line))
	}
}

// Table writes rows in columns, as wide as their cells look on a terminal. Empty cells are shown as "-", save in the last
// column. A cell wider than maxPad moves what follows it in its own line alone.
func Table(w io.Writer, head []string, rows [][]string) {
	all := append([][]string{head}, rows...)
	widths := make([]int, len(head))
	for _, row := range all {
		for i := range row {
			row[i] = printable.Short(row[i], MaxCell)
			if row[i] == "" && i < len(head)-1 {
				row[i] = "-"
			}
			if width := displaywidth.String(row[i]); width <= maxPad {
				widths[i] = max(widths[i], width)
			}
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", columnGap+max(0, widths[i]-displaywidth.String(cell))))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// Show writes v as JSON, or has it said.
func Show(w io.Writer, f Format, v any, say func(io.Writer)) error {
	if f == FormatJSON {
		return WriteJSON(w, v)
	}
	say(w)
	return nil
}

// WriteJSON writes v over several lines.
func WriteJSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// WriteJSONLine writes v on one line.
func WriteJSONLine(w io.Writer, v any) error { return encode(w, v, "") }

func encode(w io.Writer, v any, indent string) error {
	text, err := Marshal(v, indent)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

// Marshal returns v as JSON in which everything prints.
func Marshal(v any, indent string) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	err := encoder.Encode(v)
	return printable.JSON(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), err
}
