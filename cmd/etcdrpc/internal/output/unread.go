package output

import (
	"bytes"
	"io"
	"time"
)

// unread is a writer of lines that never waits for whoever reads them: it drops what comes while too many wait.
type unread chan []byte

func (u unread) Write(line []byte) (int, error) {
	select {
	case u <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// Unread returns a writer whose lines another writer gets as fast as it takes them. end waits a second at most for what waits.
func Unread(to io.Writer) (w io.Writer, end func()) {
	lines, written := make(unread, 1000), make(chan struct{})
	go func() {
		defer close(written)
		for line := range lines {
			if line == nil {
				return
			}
			_, _ = to.Write(line) // nobody is left to tell
		}
	}()
	return lines, func() {
		timeout := time.After(time.Second)
		select {
		case lines <- nil: // the last; the channel stays open, for others may still write
		case <-timeout:
			return
		}
		select {
		case <-written:
		case <-timeout:
		}
	}
}
