package main

import (
	"io"
	"log/slog"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// startNotes returns where a command says something that runs until it is ended: whoever does not read that holds up nothing, and
// whoever leaves ends nothing.
func startNotes(stderr io.Writer) (notes io.Writer, end func()) {
	notes, written := output.Unread(stderr)
	stop := outliveReaders()
	return notes, func() {
		written()
		stop()
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
