// Package etcdlog makes a logger safe for text from etcd. Otherwise a writer of one key could forge lines, move the
// cursor of a terminal that shows the log, or fill the disk.
package etcdlog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

const (
	maxValue = 1 << 10 // the maximum number of bytes of one text in the output
	maxTexts = 3 << 10 // the maximum for all texts of a line; the rest of 4 KiB is for the handler's quoting
	maxItems = 32      // the maximum number of attributes in a line
	suffix   = 32      // the maximum number of bytes that printable appends to a text that it cuts
)

// Wrap returns a logger that escapes and cuts texts before they reach l's handler. Texts are messages, names,
// strings, and values that print as text, such as errors, Stringers and others of slog.KindAny. Levels, times,
// numbers and the structure of groups stay as they are. Attributes beyond a line's limit are left out, and
// the attribute "omitted" counts them.
func Wrap(l *slog.Logger) *slog.Logger {
	return slog.New(&handler{next: l.Handler(), left: budget{bytes: maxTexts, items: maxItems}})
}

type handler struct {
	next slog.Handler
	left budget // the budget of each record, less the attributes of WithAttrs
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	left := h.left
	out := slog.NewRecord(r.Time, r.Level, left.text(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a, ok := left.attr(a); ok {
			out.AddAttrs(a)
		}
		return true
	})
	if left.omitted > 0 {
		out.AddAttrs(slog.Int("omitted", left.omitted))
	}
	return h.next.Handle(ctx, out)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	left := h.left
	attrs = left.attrs(attrs)
	return &handler{next: h.next.WithAttrs(attrs), left: left}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	left := h.left
	name = left.text(name)
	return &handler{next: h.next.WithGroup(name), left: left}
}

// budget is the space that is left in a record.
type budget struct {
	bytes, items int
	omitted      int // the number of attributes that were left out
}

// text escapes s, and cuts it to the budget.
func (b *budget) text(s string) string {
	limit := max(0, min(maxValue, b.bytes))
	text := printable.Short(s, limit)
	if len(text) > limit+suffix {
		text = printable.Short(s, limit/4) // an escape is at most four times as long as its text
	}
	b.bytes -= len(text)
	return text
}

func (b *budget) attrs(attrs []slog.Attr) []slog.Attr {
	kept := make([]slog.Attr, 0, min(len(attrs), maxItems))
	for _, a := range attrs {
		if a, ok := b.attr(a); ok {
			kept = append(kept, a)
		}
	}
	return kept
}

// attr returns a safe form of an attribute. It returns false if the budget has no room.
func (b *budget) attr(a slog.Attr) (slog.Attr, bool) {
	if b.items == 0 || b.bytes <= 0 {
		b.omitted++
		return slog.Attr{}, false
	}
	b.items--
	return slog.Attr{Key: b.text(a.Key), Value: b.value(a.Value.Resolve())}, true
}

func (b *budget) value(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString:
		return slog.StringValue(b.text(v.String()))
	case slog.KindGroup:
		return slog.GroupValue(b.attrs(v.Group())...)
	case slog.KindAny:
		return b.any(v.Any())
	default:
		return v
	}
}

// any returns a value of unknown kind as text. An error stays an error, for handlers that use errors.Is.
func (b *budget) any(v any) slog.Value {
	switch v := v.(type) {
	case nil:
		return slog.AnyValue(nil)
	case error:
		return slog.AnyValue(&shown{b.text(fmt.Sprint(v)), v}) // Sprint recovers if Error panics
	case []byte:
		return slog.StringValue(b.text(string(v)))
	default:
		return slog.StringValue(b.text(fmt.Sprintf("%+v", v)))
	}
}

// shown is an error with the escaped and cut text of another error.
type shown struct {
	text string
	err  error
}

func (e *shown) Error() string { return e.text }
func (e *shown) Unwrap() error { return e.err }
