package main

import (
	"io"
	"log/slog"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// startNotes returns the writer for messages of a long-running command. A reader that stalls or leaves does not stop the command.
func startNotes(stderr io.Writer) (notes io.Writer, end func()) {
	notes, written := output.Unread(stderr)
	stop := ignoreSIGPIPE()
	return notes, func() {
		written()
		stop()
	}
}

// newLogger returns the logger of a long-running command.
func newLogger(notes io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(lines{notes}, &slog.HandlerOptions{ReplaceAttr: dropTime}))
}

// lines prefixes each line with "etcdrpc: ", like etcdrpc's own messages.
type lines struct{ io.Writer }

func (l lines) Write(line []byte) (int, error) {
	return len(line), output.Writef(l.Writer, "etcdrpc: %s\n", strings.TrimSuffix(string(line), "\n"))
}

// dropTime drops the time: journald and container runtimes add it.
func dropTime(_ []string, attr slog.Attr) slog.Attr {
	if attr.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return attr
}
