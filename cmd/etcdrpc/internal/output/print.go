// Package output prints the output of etcdrpc's commands. It escapes text that may come from etcd: line feeds that forge
// lines, control characters that move the cursor, and marks that reverse text.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/clipperhouse/displaywidth"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Bounds of printed text.
const (
	MaxText = 4 << 10 // bytes of a text in a line
	MaxCell = 256     // bytes of a text in a table

	maxPad    = 64 // maximum width that cells are padded to
	columnGap = 2
)

// Sayf prints format to w, with the texts among args escaped and cut, so that line feeds and escape sequences come only from
// format. It drops write errors.
func Sayf(w io.Writer, format string, args ...any) { _ = Writef(w, format, args...) }

// Writef is Sayf, but returns the write error.
func Writef(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, escapedArgs(args)...)
	return err
}

// escapedArgs returns args with texts escaped and cut.
func escapedArgs(args []any) []any {
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

// Once returns a function that prints a text on its own line, unless it is "" or the same as last time.
func Once(w io.Writer) func(text string) {
	last := ""
	return func(text string) {
		if text != "" && text != last {
			Sayf(w, "%s\n", text)
		}
		last = text
	}
}

// SayLines prints text of several lines, such as indented JSON, with each line escaped. The caller must bound the nesting of
// JSON: indented, it would grow to hundreds of megabytes.
func SayLines(w io.Writer, text string) {
	for _, line := range Lines(text) {
		fmt.Fprintln(w, printable.Text(line))
	}
}

// Table prints rows in columns, by their width on a terminal. Empty cells are "-", except in the last column. A cell wider than
// maxPad shifts only its own line.
func Table(w io.Writer, head []string, rows [][]string) {
	all := append([][]string{append([]string(nil), head...)}, rows...) // a copy: callers share heads
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

// Show prints v as JSON, or calls say.
func Show(w io.Writer, f Format, v any, say func(io.Writer)) error {
	if f == FormatJSON {
		return WriteJSON(w, v)
	}
	say(w)
	return nil
}

// WriteJSON writes v as indented JSON.
func WriteJSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// WriteJSONLine writes v as JSON on one line.
func WriteJSONLine(w io.Writer, v any) error { return encode(w, v, "") }

func encode(w io.Writer, v any, indent string) error {
	text, err := Marshal(v, indent)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

// Marshal returns v as JSON with unprintable characters escaped.
func Marshal(v any, indent string) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	err := encoder.Encode(v)
	return printable.JSON(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), err
}
