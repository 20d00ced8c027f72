package etcdconn

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestCore(t *testing.T) {
	const (
		idle, connecting, up, failing = connectivity.Idle, connectivity.Connecting, connectivity.Ready, connectivity.TransientFailure

		ms = time.Millisecond
		s  = time.Second
	)

	type rule struct {
		at    time.Duration
		state connectivity.State
		want  command
	}

	for name, rules := range map[string][]rule{
		"the first connection": {
			{0, idle, command{}},
			{0, connecting, command{}},
			{0, up, command{}}, // the first connection does not count as a reconnect
		},
		"a loss and a reconnect": {
			{0, up, command{}},
			{1 * s, idle, command{}},
			{1 * s, connecting, command{retry: lostAfter}},
			{1 * s, up, command{reconnected: true}},
		},
		"a reconnect without a reported loss": {
			{0, up, command{}},
			{1 * s, up, command{reconnected: true}},
		},
		"a connection after a failed attempt": {
			{0, connecting, command{}},
			{0, failing, command{ask: true, retry: minPause}},
			{1 * s, up, command{reconnected: true}},
		},
		"the pauses grow with the duration of the loss": {
			{0, connecting, command{}},
			{2 * s, failing, command{ask: true, retry: minPause}},
			{3 * s, failing, command{retry: minPause}},
			{4 * s, connecting, command{retry: lostAfter}},
			{6 * s, failing, command{retry: minPause}},
			{7 * s, failing, command{ask: true, retry: 350 * ms}},
			{19 * s, failing, command{ask: true, retry: 950 * ms}},
			{3600 * s, failing, command{ask: true, retry: maxPause}},
			{3601 * s, up, command{reconnected: true}},
			{3602 * s, failing, command{ask: true, retry: minPause}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c core
			for i, r := range rules {
				if got := c.onState(r.state, start.Add(r.at)); got != r.want {
					t.Errorf("rule %d: the command for the state %v at %v is %+v, want %+v", i,
						r.state, r.at, got, r.want)
				}
			}
		})
	}
}

// A loss is reported once it has lasted for a moment, and again if the reason
// changes. It is logged once.
func TestCoreTellsOfALoss(t *testing.T) {
	const up, connecting, failing = connectivity.Ready, connectivity.Connecting, connectivity.TransientFailure

	silent := errors.New("there is no connection to it")
	refused := errors.New("connection refused")

	var c core
	for i, tt := range []struct {
		at          time.Duration
		state       connectivity.State
		down        error
		report, log bool
	}{
		{0, connecting, silent, false, false},
		{time.Minute, connecting, silent, false, false}, // it was never up
		{time.Minute, up, nil, false, false},
		{time.Hour, connecting, silent, false, false},
		{time.Hour + lostAfter, connecting, silent, true, true},
		{time.Hour + 2*lostAfter, connecting, silent, false, false},
		{time.Hour + 20*time.Second, failing, refused, true, false},
		{time.Hour + 21*time.Second, connecting, refused, false, false},
		{time.Hour + 22*time.Second, up, nil, false, false},
		{2 * time.Hour, connecting, silent, false, false},
		{2*time.Hour + lostAfter, failing, refused, true, true},
	} {
		now := start.Add(tt.at)
		restored := c.reason != nil && tt.state == up
		if got := c.onState(tt.state, now); got.restored != restored {
			t.Errorf("%d: restored = %v, want %v", i, got.restored, restored)
		}

		if report, log := c.lost(tt.down, now); report != tt.report || log != tt.log {
			t.Errorf("%d: lost = %v, %v, want %v, %v", i, report, log, tt.report, tt.log)
		}
	}
}

// A new cause replaces the previous one only if it has another meaning. The
// cause is cleared when the connection is up (K11).
func TestCoreRemembersTheCause(t *testing.T) {
	var c core
	c.onState(connectivity.TransientFailure, start)

	for _, tt := range []struct{ cause, want string }{
		{"dial tcp 10.0.0.1:2379: connect: connection refused",
			"dial tcp 10.0.0.1:2379: connect: connection refused"},
		{"dial tcp 10.0.0.2:2379: connect: connection refused",
			"dial tcp 10.0.0.1:2379: connect: connection refused"},
		{"read tcp 10.0.0.9:41234->10.0.0.2:2379: EOF",
			"read tcp 10.0.0.9:41234->10.0.0.2:2379: EOF"},
		{"read tcp 10.0.0.9:51234->10.0.0.1:2379: EOF",
			"read tcp 10.0.0.9:41234->10.0.0.2:2379: EOF"},
	} {
		c.setCause(errors.New(tt.cause))

		if c.cause.Error() != tt.want {
			t.Errorf("after %q the cause is %q, want %q", tt.cause, c.cause, tt.want)
		}
	}

	c.onState(connectivity.Connecting, start)

	if c.cause == nil {
		t.Error("a new attempt clears the cause")
	}

	c.onState(connectivity.Ready, start)

	if c.cause != nil {
		t.Errorf("connected: the cause is still %q, want none", c.cause)
	}
}
