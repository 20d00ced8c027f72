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
	lines    atomic.Int64
	logged   func(about, line string)
	registry atomic.Pointer[runtime.Registry] // asked at each line, as a program's own handler may: a line under a lock ends in a deadlock
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.lines.Add(1)
	c.ask()
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

// ask has the registry do what takes its locks.
func (c *counter) ask() {
	registry := c.registry.Load()
	if registry == nil {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, k := range registry.Status().Keys {
		for range registry.Watch(over, k.Key) {
			break
		}
	}
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }
func (c *counter) count() int                         { return int(c.lines.Load()) }
