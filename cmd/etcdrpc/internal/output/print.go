// Package output prints the output of etcdrpc's commands. It escapes text that
// may come from etcd: line feeds that forge lines, control characters that move
// the cursor, and characters that reverse text.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printablejson"
)

// Bounds of printed text.
const (
	MaxText = 4 << 10 // bytes of a text in a line
	MaxCell = 256     // bytes of a text in a table

	maxPad    = 64 // maximum width that cells are padded to
	columnGap = 2
)

// Sayf formats like fmt.Fprintf, but escapes and cuts strings in args, so that
// line feeds and escape sequences come only from format. It drops write errors.
func Sayf(w io.Writer, format string, args ...any) {
	_ = Writef(w, format, args...)
}

// Writef formats like Sayf, and returns the write error.
func Writef(w io.Writer, format string, args ...any) error {
	_, err := fmt.Fprintf(w, format, escapedArgs(args)...)
	return err
}

// escapedArgs returns args with strings, errors and stringers escaped and cut.
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

// Once returns a function that prints a text on its own line, unless the text
// is "" or equals the text of the previous call.
func Once(w io.Writer) func(text string) {
	previous := ""

	return func(text string) {
		if text != "" && text != previous {
			Sayf(w, "%s\n", text)
		}

		previous = text
	}
}

// SayLines prints text of several lines, such as indented JSON, with each line
// escaped. The caller must bound the nesting of JSON: indented, deep JSON would
// grow to hundreds of megabytes.
func SayLines(w io.Writer, text string) {
	for _, line := range Lines(text) {
		fmt.Fprintln(w, printable.Text(line))
	}
}

// Table prints rows in columns, by their width on a terminal. Empty cells are
// "-", except in the last column. A cell wider than maxPad shifts only its own
// line.
func Table(w io.Writer, head []string, rows [][]string) {
	all := append([][]string{slices.Clone(head)}, rows...) // a copy: callers share heads
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
			pad := columnGap + max(0, widths[i]-displaywidth.String(cell))
			line.WriteString(cell + strings.Repeat(" ", pad))
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
func WriteJSON(w io.Writer, v any) error {
	return encode(w, v, "  ")
}

// WriteJSONLine writes v as JSON on one line.
func WriteJSONLine(w io.Writer, v any) error {
	return encode(w, v, "")
}

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

	return printablejson.Escape(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), err
}

// Format is an output format.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// Formats are the names of the formats.
var Formats = []string{string(FormatTable), string(FormatJSON)}

// Check returns an error if f is not a format.
func (f Format) Check() error {
	if !slices.Contains(Formats, string(f)) {
		return fmt.Errorf("--output %q: want %s", string(f),
			strings.Join(Formats, " or "))
	}

	return nil
}

// SomeOf returns at most ten names, separated by commas, and the number of the
// others.
func SomeOf(names []string) string {
	const shown = 10
	if more := len(names) - shown; more > 0 {
		names = append(names[:shown:shown], fmt.Sprintf("and %d more", more))
	}

	return strings.Join(names, ", ")
}

// Seconds formats a number of seconds: "59s", "1h30m0s".
func Seconds(n int64) string {
	n = min(n, int64(math.MaxInt64/time.Second))
	return (time.Duration(n) * time.Second).String()
}

// Counted returns a number with a noun: "1 entry", "2 entries".
func Counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}

	return fmt.Sprintf("%d %ss", n, noun)
}

// CountedIs returns a number with a noun and a verb: "1 entry has", "2 entries
// have".
func CountedIs(n int, noun, singular, plural string) string {
	if n == 1 {
		return Counted(n, noun) + " " + singular
	}

	return Counted(n, noun) + " " + plural
}

// Diff returns the line diff of two texts, with the prefixes "- ", "+ " and,
// for unchanged lines, two spaces. Between the common head and the common tail
// all lines count as changed.
func Diff(oldText, newText string) []string {
	a := Lines(oldText)
	b := Lines(newText)
	head := 0
	tail := 0

	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}

	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}

	var out []string
	add := func(prefix string, lines []string) {
		for _, line := range lines {
			out = append(out, prefix+line)
		}
	}

	add("  ", a[:head])
	add("- ", a[head:len(a)-tail])
	add("+ ", b[head:len(b)-tail])
	add("  ", a[len(a)-tail:])

	return out
}

// Lines returns the lines of text, without line feeds.
func Lines(text string) []string {
	if text == "" {
		return nil
	}

	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// Checked writes to a writer, and keeps the first error. Concurrent use is safe
// if that writer allows it.
type Checked struct {
	to     io.Writer
	failed func()
	err    atomic.Pointer[error] // the first
}

// Check returns a writer to w that calls failed at each error.
func Check(w io.Writer, failed func()) *Checked {
	return &Checked{to: w, failed: failed}
}

// Write implements [io.Writer].
func (c *Checked) Write(text []byte) (int, error) {
	n, err := c.to.Write(text)
	if err != nil {
		failure := fmt.Errorf("write the output: %w", err)
		c.err.CompareAndSwap(nil, &failure)
		c.failed()
	}

	return n, err
}

// Err returns the first error.
func (c *Checked) Err() error {
	if failure := c.err.Load(); failure != nil {
		return *failure
	}

	return nil
}

// unread is a writer of lines that never waits for its reader: it drops lines
// while too many are queued.
type unread chan []byte

func (u unread) Write(line []byte) (int, error) {
	select {
	case u <- bytes.Clone(line):
	default:
	}

	return len(line), nil
}

// Unread returns a writer that queues lines, and writes them to dst in the
// background. end waits at most a second for the queue.
func Unread(dst io.Writer) (w io.Writer, end func()) {
	lines := make(unread, 1000)
	written := make(chan struct{})

	go func() {
		defer close(written)

		for line := range lines {
			if line == nil {
				return
			}

			_, _ = dst.Write(line) // an error cannot be shown anywhere
		}
	}()

	return lines, func() {
		timeout := time.After(time.Second)
		// nil ends the queue. The channel stays open, because others may still
		// write to it.
		select {
		case lines <- nil:
		case <-timeout:
			return
		}

		select {
		case <-written:
		case <-timeout:
		}
	}
}
