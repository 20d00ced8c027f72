// Package etcdlog makes a logger safe for text from etcd. Otherwise a writer of one key could forge lines, move the
// cursor of a terminal that shows the log, or fill the disk. It also contains faults of the logger's handler: most lines are
// logged in goroutines of this module, where a panic would end the process, and a line that hangs would keep the goroutine from
// its work.
package etcdlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
)

const (
	maxText = 1 << 10 // the maximum number of bytes of one text in the output
	suffix  = 32      // the maximum number of bytes that printable appends to a text that it cuts
)

// Wrap returns a logger that escapes and cuts texts before they reach l's handler. Texts are messages, names,
// strings, and values that print as text, such as errors, Stringers and others of slog.KindAny. Levels, times,
// numbers and the structure of groups stay as they are.
//
// l's handler gets no further line while one takes longer than 0.1 s.
func Wrap(l *slog.Logger) *slog.Logger { return slog.New(handler{l.Handler(), new(atomic.Int32)}) }

type handler struct {
	slog.Handler
	late *atomic.Int32 // the number of lines that nobody waits for any more
}

// Enabled implements [slog.Handler].
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	defer func() { _ = recover() }()
	return h.Handler.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if h.late.Load() > 0 {
		return nil
	}
	out := slog.NewRecord(r.Time, r.Level, text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(attr(a))
		return true
	})
	var err error
	var over atomic.Bool // the line is written, or late
	if !bounded.Briefly(func() {
		defer func() {
			if over.Swap(true) {
				h.late.Add(-1)
			}
		}()
		err = h.Handler.Handle(ctx, out)
	}) {
		if h.late.Add(1); over.Swap(true) {
			h.late.Add(-1) // it is written by now
		}
		return nil
	}
	return err
}

// WithAttrs implements [slog.Handler].
func (h handler) WithAttrs(all []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs(all)), h.late}
}

// WithGroup implements [slog.Handler].
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(text(name)), h.late}
}

// text returns s, escaped and cut.
func text(s string) string {
	short := printable.Short(s, maxText)
	if len(short) > maxText+suffix {
		short = printable.Short(s, maxText/4) // an escape is at most four times as long as its text
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

// anyValue returns a value of unknown kind as text. An error stays an error, for handlers that use errors.Is.
func anyValue(v any) slog.Value {
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		return slog.AnyValue(&shown{text(fmt.Sprint(v)), v}) // Sprint recovers if Error panics
	}
	return slog.StringValue(text(fmt.Sprintf("%+v", v)))
}

// shown is an error with the escaped and cut text of another error.
type shown struct {
	text string
	err  error
}

func (e *shown) Error() string { return e.text }
func (e *shown) Unwrap() error { return e.err }
