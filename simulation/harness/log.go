package harness

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// lifeLog is the log of one life of a process: a slog.Handler that records its lines.
type lifeLog struct {
	p        process                          // as the life began
	registry atomic.Pointer[runtime.Registry] // called at each line, as a program's own handler may: a line logged under a lock ends in a deadlock
}

// troubles are the lines that report failures of etcd. A refusal is an answer.
var troubles = map[string]bool{"etcd watch interrupted; listing again": true, "etcd list failed; trying again": true}

// Handle records a line. A line about the end of a registration, which takes a call, may come any number of times.
func (l *lifeLog) Handle(_ context.Context, r slog.Record) error {
	w, name := l.p.w, l.p.name()
	w.count(l.p.index, func(c *check.Counts) { c.Lines++ })
	l.ask()
	about, attrs, asked := r.Message, "", false
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "key" {
			about += " " + a.Value.String()
		}
		asked = asked || a.Key == "state" && a.Value.String() == runtime.StateClosed.String()
		attrs += " " + a.String()
		return true
	})
	w.note("%s logs: %s%s", name, r.Message, attrs)
	if l.p.closed.Load() {
		w.report(check.LeftBehind, "the registry of %s is closed, and logs %q", name, r.Message)
	}
	if asked {
		about = ""
	}
	// A killed life has lost its connections, and may notice that before it is closed. A stream has the token of its start.
	trouble := troubles[r.Message] && !strings.Contains(attrs, codes.Unauthenticated.String()) && !w.network.Removed(l.p.from)
	w.record(func(h *check.History) {
		h.Lines = append(h.Lines, check.Line{At: time.Now(), Life: name + " at " + l.p.from, About: about, Trouble: trouble})
	})
	return nil
}

// ask makes calls of the registry that take its locks.
func (l *lifeLog) ask() {
	registry := l.registry.Load()
	if registry == nil {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, k := range registry.Status().Keys {
		for _, err := range registry.Watch(over, k.Key) {
			_ = err // the call must return; its result does not matter
		}
	}
}

// Enabled reports true: each line counts.
func (l *lifeLog) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs and WithGroup return the log itself: the runtime uses neither.
func (l *lifeLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *lifeLog) WithGroup(string) slog.Handler      { return l }
