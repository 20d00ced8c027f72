package harness

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// counter is a slog.Handler that counts log lines, and passes them on together with what they are about: the message and the
// key that it names, "" if the line tells of the end of a registration, which takes a call.
type counter struct {
	lines    atomic.Int64
	registry atomic.Pointer[runtime.Registry] // asked at each line, as a program's own handler may: a line under a lock ends in a deadlock

	mu     sync.Mutex
	states map[logged]string // the last that was logged
	logged func(about, line string)
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
		for _, err := range registry.Watch(over, k.Key) {
			_ = err // that it can be asked for is what matters
		}
	}
}

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *counter) WithGroup(string) slog.Handler      { return c }
func (c *counter) count() int                         { return int(c.lines.Load()) }

// lifeLog is the log of one life of a process, which logs nothing once its registry is closed.
type lifeLog struct {
	*counter
	closed *atomic.Bool
	w      *world
	name   string
	index  int
	life   int
}

// troubles are the lines that say that etcd does not answer as it should.
var troubles = map[string]bool{"etcd watch interrupted; listing again": true, "etcd list failed; trying again": true}

// logged is an etcd key of a life.
type logged struct {
	life int
	key  string
}

// told reports whether the last state that a life has logged of an entry under a service's key is a given one.
func (c *counter) told(life int, service, state string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, last := range c.states {
		if of.life == life && strings.HasPrefix(of.key, service+"/") && last == state {
			return true
		}
	}
	return false
}

// Handle takes a line.
func (l lifeLog) Handle(ctx context.Context, r slog.Record) error {
	if l.closed.Load() {
		l.w.Report(check.LeftBehind, "the registry of %s is closed, and logs %q", l.name, r.Message)
	}
	// A killed life has lost its connections, and may see that before it is closed.
	if troubles[r.Message] && !l.w.network.Removed(l.w.Plan.DialHost(l.index, l.life)) && !l.w.Troubled(l.index) && !l.w.Unopened(l.index) {
		l.w.Report(check.Warned, "%s logs %q, with nothing between it and etcd%s", l.name, r.Message, l.w.far())
	}
	key, state := "", ""
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "key":
			key = a.Value.String()
		case "state":
			state = a.Value.String()
		}
		return true
	})
	if state != "" {
		l.mu.Lock()
		l.states[logged{l.life, key}] = state
		l.mu.Unlock()
	}
	return l.counter.Handle(ctx, r)
}

// WithAttrs and WithGroup return the log itself: the runtime uses neither.
func (l lifeLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l lifeLog) WithGroup(string) slog.Handler      { return l }
