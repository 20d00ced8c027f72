package world

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// counter is a slog.Handler that counts log lines and adds them to the trace.
type counter struct {
	lines atomic.Int64
	note  func(format string, args ...any)
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.lines.Add(1)
	attrs := ""
	r.Attrs(func(a slog.Attr) bool {
		attrs += " " + a.String()
		return true
	})
	c.note("%s%s", r.Message, attrs)
	return nil
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }
func (c *counter) count() int                         { return int(c.lines.Load()) }
