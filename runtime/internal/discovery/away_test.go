package discovery

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLeft has connections leave and come back without end: of each departure that is logged, the return is, too.
func TestLeft(t *testing.T) {
	var logs bytes.Buffer
	k := &Key{spec: spec{key: "ns/acme/user"}, keys: &Keys{cfg: Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))}}}
	k.Left(true)
	k.Left(true)
	if k.Left(false); k.Away() != 1 || strings.Count(logs.String(), "\n") != 1 {
		t.Errorf("with one of two away: %d, and the log %s", k.Away(), &logs)
	}
	k.Left(false)
	for range 100 {
		k.Left(true)
		k.Left(false)
	}
	left, back := strings.Count(logs.String(), "calls go to"), strings.Count(logs.String(), "calls are back")
	if k.Away() != 0 || left < 2 || left > 6 || left != back || !strings.Contains(logs.String(), "key=ns/acme/user") {
		t.Errorf("%d away, %d departures logged and %d returns: %s", k.Away(), left, back, &logs)
	}
}
