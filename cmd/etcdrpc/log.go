package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// unread is a writer that never waits for whoever reads: what comes while too many lines wait is dropped.
type unread chan []byte

func (u unread) Write(line []byte) (int, error) {
	select {
	case u <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// startNotes returns where a command says something that runs until it is ended: whoever does not read that holds up nothing, and
// whoever leaves ends nothing. end waits a second at most for what waits.
func startNotes(stderr io.Writer) (notes io.Writer, end func()) {
	lines, written, stop := make(unread, 1000), make(chan struct{}), outliveReaders()
	go func() {
		defer close(written)
		for line := range lines {
			if line == nil {
				return
			}
			_, _ = stderr.Write(line) // nobody is left to tell
		}
	}()
	return lines, func() {
		defer stop()
		select {
		case lines <- nil: // the last; it stays open, for others may write still
		case <-time.After(time.Second):
			return
		}
		select {
		case <-written:
		case <-time.After(time.Second):
		}
	}
}

// newLogger returns the logger of a command that runs until it is ended.
func newLogger(notes io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(lines{notes}, &slog.HandlerOptions{ReplaceAttr: untimed}))
}

// lines prefixes each line with "etcdrpc: ", as etcdrpc's own messages have it.
type lines struct{ io.Writer }

func (l lines) Write(line []byte) (int, error) {
	return len(line), output.Writef(l.Writer, "etcdrpc: %s\n", strings.TrimSuffix(string(line), "\n"))
}

// untimed drops the time: journald and container runtimes add one.
func untimed(_ []string, attr slog.Attr) slog.Attr {
	if attr.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return attr
}
