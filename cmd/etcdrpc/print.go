package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// All output goes through this file, which escapes whatever could come from etcd: line feeds that forge lines,
// control characters that move the cursor, marks that turn text around. TestOutput fails on any other way out.

const (
	maxText = 4 << 10 // bytes of a text in a line
	maxCell = 256     // bytes of a text in a table, whose columns are as wide as their widest cell
)

// sayf writes format, with the texts among args escaped and cut. Line feeds and escape sequences can only come from
// format. It is for people, so it drops the error of the write.
func sayf(w io.Writer, format string, args ...any) { _ = writef(w, format, args...) }

// writef is sayf that returns the error of the write.
func writef(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, shown(args)...)
	return err
}

// shown returns args with the texts among them escaped and cut.
func shown(args []any) []any {
	all := make([]any, len(args))
	for i, arg := range args {
		switch value := arg.(type) {
		case error, fmt.Stringer:
			all[i] = printable.Short(fmt.Sprint(value), maxText)
		default:
			all[i] = arg
			if v := reflect.ValueOf(arg); v.Kind() == reflect.String {
				all[i] = printable.Short(v.String(), maxText)
			}
		}
	}
	return all
}

// sayLines writes text of several lines, such as indented JSON, in full, and escapes each line. Text from etcd must
// have been through [pretty].
func sayLines(w io.Writer, text string) {
	for _, line := range lines(text) {
		fmt.Fprintln(w, printable.Text(line))
	}
}

// table writes rows in columns. Empty cells are shown as "-", save in the last column.
func table(w io.Writer, head []string, rows [][]string) {
	all := append([][]string{head}, rows...)
	widths := make([]int, len(head))
	for _, row := range all {
		for i := range row {
			row[i] = printable.Short(row[i], maxCell)
			if row[i] == "" && i < len(head)-1 {
				row[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// writeJSON writes v over several lines.
func writeJSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// writeJSONLine writes v on one line.
func writeJSONLine(w io.Writer, v any) error { return encode(w, v, "") }

func encode(w io.Writer, v any, indent string) error {
	text, err := marshal(v, indent)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

// marshal returns v as JSON in which everything prints.
func marshal(v any, indent string) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	err := encoder.Encode(v)
	return printable.JSON(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), err
}

// pretty returns JSON for people, with the fields of objects in the order of their names, so that two texts that say
// the same look the same. Text that is not JSON is returned escaped, on one line.
func pretty(text []byte) string {
	if tooDeep(text) {
		return printable.Text(string(text))
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil || decoder.More() {
		return printable.Text(string(text))
	}
	out, err := marshal(v, "  ")
	if err != nil {
		return printable.Text(string(text))
	}
	return string(out)
}
