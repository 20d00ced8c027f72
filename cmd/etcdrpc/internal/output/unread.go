package output

import (
	"bytes"
	"io"
	"time"
)

// unread is a writer of lines that never waits for its reader: it drops lines while too many are queued.
type unread chan []byte

func (u unread) Write(line []byte) (int, error) {
	select {
	case u <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// Unread returns a writer that passes lines to another writer as fast as that accepts them. end waits a second at most for queued lines.
func Unread(to io.Writer) (w io.Writer, end func()) {
	lines, written := make(unread, 1000), make(chan struct{})
	go func() {
		defer close(written)
		for line := range lines {
			if line == nil {
				return
			}
			_, _ = to.Write(line) // no error can be shown
		}
	}()
	return lines, func() {
		timeout := time.After(time.Second)
		select {
		case lines <- nil: // the end; the channel stays open, for others may still write
		case <-timeout:
			return
		}
		select {
		case <-written:
		case <-timeout:
		}
	}
}
