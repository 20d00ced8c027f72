package steer

import (
	"strings"
	"testing"
)

// Of very large policies the last are remembered.
func TestRecent(t *testing.T) {
	const size, kept = 250_000, maxPast / 250_000
	text := strings.Repeat("x", size)
	var r recent
	for n := range int64(kept + 3) {
		if r.add(Past{Revision: n + 1, Text: text}); n < kept && r.from != 0 {
			t.Fatalf("of %d policies those from %d on are remembered", n+1, r.from)
		}
	}
	if len(r.all) != kept || r.all[0].Revision != 4 || r.from != 4 {
		t.Errorf("%d policies from %d on: the first is %d", len(r.all), r.from, r.all[0].Revision)
	}
}
