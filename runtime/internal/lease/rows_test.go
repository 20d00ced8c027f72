package lease

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// While etcd is away, the status of a registered entry has the time of the last renewal, and so has a log line.
func TestOverdue_IsReported(t *testing.T) {
	s := newScript(t)
	s.have(numbered(5)...) // which are clean now
	overdue := func() error { return s.core.overdue(s.now, s.core.lease) }
	renewed := func(life time.Duration) {
		s.etcd.leases[1], s.renewAt = s.now.Add(life), s.now.Add(life)
		s.core.get(1).life = life
		s.core.onRenewal(s.now, 1, life, 0)
	}
	renewed(10 * time.Minute)
	s.run(5 * time.Second)
	s.play("down; run 9s")
	if err := overdue(); err != nil || len(s.core.warnings) > 0 {
		t.Errorf("away for a moment: %v", err)
	}
	s.play("run 31s")
	err := overdue()
	if err == nil || !strings.Contains(err.Error(), "lease 1 was last renewed at") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("away for 40 s: %v", err)
	}
	s.state("k0000", Registered)
	if n := len(s.core.warnings); n != 1 || s.core.warnings[0].others != 4 {
		t.Errorf("%d lines say so, want 1: %v", n, s.core.warnings)
	}
	s.etcd.down = false
	s.run(3 * time.Second)
	if err := overdue(); err != nil {
		t.Errorf("back: %v", err)
	}
	renewed(10 * time.Minute) // and etcd answers no other call
	s.run(5*time.Minute + overdueAfter)
	if err := overdue(); !errors.Is(err, errNoRenewal) {
		t.Errorf("no renewal for half of its life: %v", err)
	}
}

// The registration of one more entry does not visit clean entries: they could be nil (G37).
func TestRegistrationSkipsCleanEntries(t *testing.T) {
	s := newScript(t)
	s.have(numbered(100)...)
	if n := len(s.core.dirty); n > 0 {
		t.Fatalf("%d of 100 entries are dirty", n)
	}
	clear(s.core.entries)
	s.have("one-more")
	if n := len(s.core.dirty); n > 0 {
		t.Error("the entry is dirty")
	}
}
