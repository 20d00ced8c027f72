package supervise

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

func TestCoreIsPure(t *testing.T) { coretest.Check(t, "core.go") }

var began = time.Unix(1000, 0)

func testSettings() Settings {
	return Settings{Key: "acme/user", Name: "server", DrainDelay: time.Second, StopTimeout: 20 * time.Second, StartTimeout: time.Minute}
}

// TestCode has the code of a command be that of the supervisor, but for one that is to serve in time and has not.
func TestCode(t *testing.T) {
	timed, untimed := testSettings(), testSettings()
	untimed.StartTimeout = 0
	served, asked, late := event{kind: probed}, event{kind: signalled, signal: Terminate}, began.Add(timed.StartTimeout)
	for _, tc := range []struct {
		name     string
		settings Settings
		before   event
		exit     Exit
		at       time.Time
		want     int
	}{
		{"fine", timed, served, Exit{}, began, 0},
		{"failed", timed, served, Exit{Code: 3}, began, 3},
		{"killed", timed, served, Exit{Signal: Kill}, began, 137},
		{"ended", timed, served, Exit{Signal: Terminate}, began, 143},
		{"late, and fine with that", timed, event{}, Exit{}, late, 1},
		{"late, and failed", timed, event{}, Exit{Code: 3}, late, 3},
		{"before it served", timed, event{}, Exit{}, began, 1},
		{"before it served, as it was asked to", timed, asked, Exit{}, began, 0},
		{"before it served, for which it has all time", untimed, event{}, Exit{}, began, 0},
	} {
		c := newCore(tc.settings, began)
		c.step(tc.before, tc.at)
		c.step(event{kind: exited, exit: tc.exit, alone: true}, tc.at)
		c.step(event{kind: withdrawn}, tc.at)
		if !c.over || c.code() != tc.want {
			t.Errorf("%s: it exits: %v with %d, not %d", tc.name, c.over, c.code(), tc.want)
		}
	}
}

// TestMisses has a command without an answer be unhealthy after some probes, and one that says so at once.
func TestMisses(t *testing.T) {
	errAway, now := errors.New("away"), began
	c := newCore(testSettings(), now)
	probe := func(found health) do {
		now = now.Add(probeInterval)
		return c.step(event{kind: probed, health: found, err: errAway}, now)
	}
	if do := probe(healthy); !do.announce {
		t.Fatal("a command that serves is not announced")
	}
	for n := 1; n <= maxMisses; n++ {
		if do := probe(unreachable); do.pause != (n == maxMisses) {
			t.Errorf("after %d misses it is paused: %v", n, do.pause)
		}
	}
	if do := probe(unreachable); do.pause || len(do.say) > 0 {
		t.Errorf("another miss: %+v", do)
	}
	if do := probe(busy); do.resume {
		t.Error("a command is resumed before it is healthy")
	}
	if do := probe(healthy); !do.resume {
		t.Error("a command that is back is not resumed")
	}
	for range maxMisses {
		if do := probe(busy); do.pause {
			t.Error("a command with no room for probes is paused")
		}
	}
	if do := probe(unhealthy); !do.pause {
		t.Error("a command that says it is not healthy is not paused")
	}
}

// TestSaidOnce has trouble with etcd said once a change.
func TestSaidOnce(t *testing.T) {
	c, now := newCore(testSettings(), began), began
	c.step(event{kind: probed}, now)
	lines := 0
	for _, text := range []string{"denied", "denied", "full at 127.0.0.1:40001", "full at 127.0.0.1:40002"} {
		lines += len(c.step(event{kind: announced, err: errors.New(text)}, now).say)
		now = now.Add(maxRetry)
		if do := c.step(event{}, now); !do.announce {
			t.Fatal("it is not announced again")
		}
	}
	if lines != 2 {
		t.Errorf("%d lines about two troubles", lines)
	}
}

// TestForwarded has signals that do not ask to end passed on in every phase.
func TestForwarded(t *testing.T) {
	const hangup Signal = 1
	c := newCore(testSettings(), began)
	for _, e := range []event{{}, {kind: probed}, {kind: signalled, signal: Terminate}, {kind: withdrawn}, {kind: signalled, signal: Terminate}} {
		c.step(e, began)
		if do := c.step(event{kind: signalled, signal: hangup}, began); !slices.Equal(do.signals, []Signal{hangup}) {
			t.Errorf("in phase %d the signals %v are passed on", c.phase, do.signals)
		}
	}
}
