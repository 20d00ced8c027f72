package etcdlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"unicode"
)

const evil = "a\nFIX: etcdctl del --prefix /\x1b[2J\u202eb\u2066\u200b\x00\xff\u2028\x1b]8;;http://x\x07y"

// valuer is a LogValuer.
type valuer struct{ v slog.Value }

func (v valuer) LogValue() slog.Value {
	return v.v
}

type stringer string

func (s stringer) String() string {
	return string(s)
}

type broken struct{}

func (*broken) Error() string {
	panic(evil)
}

var errEvil = errors.New(evil)

// TestHostileAttributes gives a logger hostile text in every way that slog has.
func TestHostileAttributes(t *testing.T) {
	handlers := map[string]func(io.Writer) slog.Handler{
		"text":  func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON":  func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"naive": func(w io.Writer) slog.Handler { return naive{w} },
		"groups": func(w io.Writer) slog.Handler {
			return slog.NewJSONHandler(w, nil).WithGroup("g")
		},
	}

	values := map[string]any{
		"string":    evil,
		"error":     errEvil,
		"wrapped":   fmt.Errorf("%q: %w", evil, errEvil),
		"Stringer":  stringer(evil),
		"bytes":     []byte(evil),
		"slice":     []string{evil},
		"map":       map[string]string{evil: evil},
		"struct":    struct{ A string }{evil},
		"group":     slog.GroupValue(slog.String(evil, evil), slog.Group(evil, evil, evil)),
		"LogValuer": valuer{slog.StringValue(evil)},
		"LogValuer of a group": valuer{
			slog.GroupValue(slog.Any(evil, valuer{slog.AnyValue(errEvil)}))},
		"panicking error": (*broken)(nil),
		"empty":           "",
		"nil":             nil,
	}

	for handler, open := range handlers {
		for name, value := range values {
			var out bytes.Buffer
			l := Wrap(slog.New(open(&out)))
			l.Warn(evil, evil, value)
			l.With(evil, value).WithGroup(evil).With(evil, value).Warn(evil, evil, value)
			checkLines(t, handler+", "+name, out.String(), 2)
		}
	}
}

func checkLines(t *testing.T, what, text string, lines int) {
	t.Helper()

	if n := strings.Count(text, "\n"); n != lines {
		t.Errorf("%s: %d lines, want %d:\n%s", what, n, lines, text)
	}

	for _, line := range strings.Split(text, "\n") {
		i := strings.IndexFunc(line, func(r rune) bool {
			return !unicode.IsPrint(r) || r == unicode.ReplacementChar
		})
		if i >= 0 {
			t.Errorf("%s: a line has %q, which is not escaped", what, line[i:])
		}
	}
}

// naive is a handler that escapes nothing.
type naive struct{ out io.Writer }

func (naive) Enabled(context.Context, slog.Level) bool {
	return true
}

func (n naive) Handle(_ context.Context, r slog.Record) error {
	fmt.Fprint(n.out, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(n.out, " %s=%+v", a.Key, a.Value.Any())
		return true
	})

	fmt.Fprintln(n.out)

	return nil
}

func (n naive) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		fmt.Fprintf(n.out, "%s=%+v ", a.Key, a.Value)
	}

	return n
}

func (n naive) WithGroup(name string) slog.Handler {
	fmt.Fprint(n.out, name, " ")
	return n
}

// TestLogLinesAreBounded gives a logger long texts.
func TestLogLinesAreBounded(t *testing.T) {
	for name, long := range map[string]string{
		"plain":   strings.Repeat("x", 261_000),
		"control": strings.Repeat("\x01", 261_000),
		"wide":    strings.Repeat("\u202e", 87_000),
	} {
		var out bytes.Buffer
		l := Wrap(slog.New(slog.NewTextHandler(&out, nil)))
		l.With("a", errors.New(long)).Warn(long, slog.String(long, long),
			slog.GroupAttrs("g", slog.Any("a", []string{long})))
		checkLines(t, name, out.String(), 1)

		if n := out.Len(); n > 8<<10 {
			t.Errorf("%s: the line with five long texts has %d bytes, want at most %d",
				name, n, 8<<10)
		}
	}

	if whole := strings.Repeat("y", maxText); text(whole) != whole {
		t.Errorf("a text of %d bytes is cut, want it whole", maxText)
	}
}

// TestErrorsStayErrors checks that a handler can use errors.Is.
func TestErrorsStayErrors(t *testing.T) {
	cause := errors.New("cause")
	got := error(nil)
	look := func(_ []string, a slog.Attr) slog.Attr {
		if err, ok := a.Value.Any().(error); ok {
			got = err
		}

		return a
	}

	opts := &slog.HandlerOptions{ReplaceAttr: look}
	l := Wrap(slog.New(slog.NewTextHandler(new(bytes.Buffer), opts)))
	l.Warn("größe", "error", fmt.Errorf("failed: %w", cause))

	if !errors.Is(got, cause) || got.Error() != "failed: cause" {
		t.Errorf("the handler got the error %v, want one that wraps the cause", got)
	}
}

func TestHandler(t *testing.T) {
	var out *bytes.Buffer
	open := func(*testing.T) slog.Handler {
		out = &bytes.Buffer{}
		return Wrap(slog.New(slog.NewJSONHandler(out, nil))).Handler()
	}

	line := func(t *testing.T) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(out.Bytes(), &m); err != nil {
			t.Fatal(err)
		}

		return m
	}

	slogtest.Run(t, open, line)
}
