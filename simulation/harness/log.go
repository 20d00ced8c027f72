package harness

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// counter is a slog.Handler that counts log lines, and passes them on together with what they are about: the message and the
// key that it names, "" if the line tells of the end of a registration, which takes a call.
type counter struct {
	lines  atomic.Int64
	logged func(about, line string)
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.lines.Add(1)
	about, attrs, asked := r.Message, "", false
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "key" {
			about += " " + a.Value.String()
		}
		asked = asked || a.Key == "state" && a.Value.String() == runtime.StateClosed.String()
		attrs += " " + a.String()
		return true
	})
	if asked {
		about = ""
	}
	c.logged(about, r.Message+attrs)
	return nil
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }
func (c *counter) count() int                         { return int(c.lines.Load()) }
