// Package etcdlog makes a logger safe for text from etcd. Otherwise a writer of
// one key could forge lines, move the cursor of a terminal that shows the log,
// or fill the disk.
package etcdlog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const (
	maxText = 1 << 10 // the maximum number of bytes of one text in the output

	// the maximum number of bytes that printable appends to a text that it cuts
	suffix = 32
)

// Wrap returns a logger that escapes and cuts texts before they reach l's
// handler. Texts are messages, names, strings, and all values of slog.KindAny,
// such as errors and Stringers. Levels, times, numbers and the structure of
// groups stay as they are.
func Wrap(l *slog.Logger) *slog.Logger {
	return slog.New(handler{l.Handler()})
}

type handler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(attr(a))
		return true
	})

	return h.Handler.Handle(ctx, out)
}

// WithAttrs implements [slog.Handler].
func (h handler) WithAttrs(all []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs(all))}
}

// WithGroup implements [slog.Handler].
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(text(name))}
}

// text returns s, escaped and cut.
func text(s string) string {
	short := printable.Short(s, maxText)
	if len(short) > maxText+suffix {
		// an escape is at most four times as long as its text
		short = printable.Short(s, maxText/4)
	}

	return short
}

func attrs(all []slog.Attr) []slog.Attr {
	safe := make([]slog.Attr, len(all))
	for i, a := range all {
		safe[i] = attr(a)
	}

	return safe
}

func attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		v = slog.StringValue(text(v.String()))
	case slog.KindGroup:
		v = slog.GroupValue(attrs(v.Group())...)
	case slog.KindAny:
		v = anyValue(v.Any())
	}

	return slog.Attr{Key: text(a.Key), Value: v}
}

// anyValue returns a value of unknown kind as text. An error stays an error,
// for handlers that use errors.Is.
func anyValue(v any) slog.Value {
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		// Sprint recovers if Error panics
		return slog.AnyValue(&shown{text(fmt.Sprint(v)), v})
	}

	return slog.StringValue(text(fmt.Sprintf("%+v", v)))
}

// shown is an error with the escaped and cut text of another error.
type shown struct {
	text string
	err  error
}

func (e *shown) Error() string {
	return e.text
}

func (e *shown) Unwrap() error {
	return e.err
}
