package output

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestBacklog_Bounded has more lines come than may wait while nobody reads.
func TestBacklog_Bounded(t *testing.T) {
	r, w := io.Pipe()
	b := NewBacklog(w)
	fmt.Fprintln(b, "-")
	if _, err := r.Read(make([]byte, 1)); err != nil { // the rest of the first line does not wait any more
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range maxBacklog {
		fmt.Fprintln(io.MultiWriter(b, &want), "line", i)
	}
	for range 7 {
		fmt.Fprintln(b, "dropped")
	}
	go func() {
		b.Close()
		fmt.Fprintln(b, "too late")
		<-b.done
		_ = w.Close()
	}()
	got, err := io.ReadAll(r)
	if want := "\n" + want.String() + "etcdrpc: 7 more lines were dropped, for nobody read them\n"; err != nil || string(got) != want {
		t.Errorf("it writes %q: %v", got, err)
	}
}
