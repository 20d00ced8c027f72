package output

import (
	"bytes"
	"io"
	"testing"
)

// TestUnread checks that end writes the queued lines, and does not wait for a stalled reader.
func TestUnread(t *testing.T) {
	var got bytes.Buffer
	w, end := Unread(&got)
	Sayf(w, "one\n")
	end()
	if got.String() != "one\n" {
		t.Errorf("the reader got %q, want %q", &got, "one\n")
	}
	_, stuck := io.Pipe()
	t.Cleanup(func() { _ = stuck.Close() }) // never an error
	w, end = Unread(stuck)
	for range 3000 {
		Sayf(w, "line\n")
	}
	end()
}
