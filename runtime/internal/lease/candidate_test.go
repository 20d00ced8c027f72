package lease

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// candidate is an entry of a key and a candidate.
func candidate(key string) []Item { return plusCandidate(key, item(key, "v")) }

// plusCandidate returns the items of an entry with a candidate, for an election of its own.
func plusCandidate(name string, items []Item) []Item { return plusRival(name, name, items) }

// plusRival returns the items of an entry with a candidate for an election.
func plusRival(election, name string, items []Item) []Item {
	return append(items, Item{
		Key: func(clientv3.LeaseID) string { return name + "?" }, Value: name, Elect: func(Candidacy) {}, Election: election,
	})
}

// stand registers a key with a candidate.
func (s *script) stand(key string) {
	s.t.Helper()
	s.items(key, candidate(key))
	s.settle()
}

// stands reports whether the candidate of a key may lead as far as the session knows, and checks that with etcd.
func (s *script) stands(key string) bool {
	s.t.Helper()
	is := s.entries[key].candidacyOf(s.now, &s.core.leases)
	if is == (Candidacy{}) {
		return false
	}
	kv := s.etcd.get(key + "?")
	switch {
	case kv == nil:
		s.t.Errorf("%+v, but etcd has no such key", is)
	case kv.created != is.Created:
		s.t.Errorf("%+v, but in etcd it was created at %d", is, kv.created)
	case !is.Until.Before(s.etcd.leases[kv.lease]):
		s.t.Errorf("until %v, but the lease may end at %v", is.Until, s.etcd.leases[kv.lease])
	}
	return true
}

func TestCandidates(t *testing.T) {
	for _, row := range []struct {
		rule, do string
		want     string // calls
		leads    bool
	}{
		{"goes with its entry", "stand a", "grant, put a a?", true},
		{"resigns with its entry", "have b; stand a; pause a; settle", "put a a?, mark a, remove a a?", false},
		{"is new after a pause", "have b; stand a; pause a; settle; resume a; settle", "put a a?, mark a, remove a a?, put a a?", true},
		{"goes when the session does", "stand a; close; settle", "grant, put a a?, mark a, revoke 1", false},
		{"takes over the entry, not the candidate, of a process before", "another a; stand a", "grant, put a a?, put a a?", true},
		{"stays out without its entry", "forbid a; stand a", "grant, put a a?, put a, put a, grant, put a, put a, revoke 1", false},
		{"leaves when another process takes the entry", "stand a; another a; nudge; run 1s", "grant, put a a?, check a a?, remove a?", false},
		{"leaves while its entry is deleted and etcd is full", "stand a; full; delete a; nudge; run 1s; full; run 2s",
			"grant, put a a?, check a a?, put a, remove a?, put a a?, put a a?, check a a?", true},
		{"does not lead while its entry is deleted", "stand a; delete a; nudge; ask a; run 1s", "grant, put a a?, check a a?, put a", true},
		{"is created anew when it is deleted", "stand a; delete a?; nudge; run 1s", "grant, put a a?, check a a?, put a?", true},
		{"is created anew in a backup from before it was gone",
			"stand a; backup; pause a; settle; restore; written; resume a; run 1s",
			"grant, put a a?, mark a, revoke 1, grant, put a a?, remove a?, grant, put a a?, revoke 2, revoke 1", true},
		{"is created anew where its lease has been replaced since the backup",
			"stand a; backup; revoke 1; renewal-unknown 1; run 1s; restore; written; nudge; run 1s",
			"grant, put a a?, grant, put a a?, check a a?, remove a?, grant, put a a?, revoke 2, revoke 1", true},
		{"is created anew where it may have been gone before the restore", "stand a; watched; backup; down; run 20s; restore; written; run 3s",
			"grant, put a a?, check a a?, check a a?, check a a?, check a a?, remove a?, remove a?, grant, put a a?, revoke 1, check a a?", true},
		{"is created anew where it is not known before the restore that it was deleted",
			"have b; stand a; backup; pause a; run 1ms; fate 2; run 20ms; restore; written; resume a; run 3s",
			"put a a?, mark a, remove a a?, remove a?, grant, put b a a?, revoke 1, check b a a?", true},
		{"keeps its revision on another lease", "stand a; replace 1; settle", "grant, put a a?, grant, put a a?, revoke 1", true},
		{"goes on while its entry is there under its earlier name", "stand-named a; forbid a/2 a/3; replace 1; run 4s",
			"grant, put a/1 a?, grant, put a/2 a?, put a/2, put a/2, put a/2, put a/2, grant, put a/3 a?, put a/3, put a/3, revoke 2, check a? a/1, put a/3, put a/3", true},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			s.play(row.do)
			calls := slices.DeleteFunc(s.calls, func(call string) bool { return strings.HasPrefix(call, "read") })
			if got := strings.Join(calls, ", "); got != row.want {
				t.Errorf("calls: %s\nwant:  %s", got, row.want)
			}
			if got := s.stands("a"); got != row.leads {
				t.Errorf("stands: %v, want %v (%v)", got, row.leads, s.entries["a"].err)
			}
		})
	}
}

// No two terms of an election share a token: two candidates of one process are never created at one revision.
func TestE1_OneElectionTwoTransactions(t *testing.T) {
	s := newScript(t)
	for _, key := range []string{"a", "b", "c"} {
		s.items(key, plusRival("e", key, item(key, "v")))
	}
	s.items("d", candidate("d")) // of another election
	s.settle()
	s.etcd.revoke(1)
	s.core.renewalFailed(s.now, 1, rpctypes.ErrLeaseNotFound)
	s.run(time.Second)
	puts := "grant, put a a? b c d d?, put b?, put c?"
	if got, want := strings.Join(s.calls, ", "), puts+", "+puts; got != want {
		t.Errorf("calls: %s\nwant:  %s", got, want)
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		if !s.stands(key) {
			t.Errorf("%s does not stand", key)
		}
	}
}

// A refused entry keeps no other out, whatever its candidate waits for.
func TestG31_OthersGetIn(t *testing.T) {
	s := newScript(t)
	for _, key := range []string{"a", "b"} {
		s.etcd.unwritable[key] = true
		s.items(key, candidate(key))
	}
	var others []string
	for i := range 100 {
		others = append(others, fmt.Sprint("c", i))
	}
	s.add(others...)
	s.items("d", candidate("d"))
	for _, do := range []string{"run 1s", "revoke 2; heard; run 1s"} {
		s.play(do)
		for _, key := range append(others, "d") {
			if s.state(key, Registered); s.etcd.get(key) == nil {
				t.Errorf("%s: %s is not in etcd", do, key)
			}
		}
		if !s.stands("d") {
			t.Errorf("%s: d does not stand", do)
		}
	}
}

// A candidacy counts from when a renewal was sent, and a chain of renewals that broke is not mended by a late one.
func TestConfirmations(t *testing.T) {
	s := newScript(t)
	s.stand("a")
	e, begun := s.entries["a"], s.core.get(1).confirmed
	until := func(want time.Time) {
		t.Helper()
		if got := e.candidacyOf(begun, &s.core.leases).Until; !got.Equal(want) {
			t.Errorf("until %v, want %v", got, want)
		}
	}
	life := ttl - ttl/marginOf
	until(begun.Add(life))
	s.core.renewed(begun.Add(time.Second), 1, ttl, 0) // an answer, to a request of an unknown time
	until(begun.Add(life))
	s.core.confirm(begun.Add(time.Second), 1)
	until(begun.Add(time.Second + life))
	s.core.confirm(begun, 1) // overtaken
	until(begun.Add(time.Second + life))
	s.core.confirm(begun.Add(time.Second+life), 1) // too late to tell
	until(begun.Add(time.Second + life))
	s.core.confirm(begun.Add(2*time.Second), 9) // not ours
	if e.candidacyOf(begun.Add(time.Second+life), &s.core.leases) != (Candidacy{}) {
		t.Error("it stands when its time has run out")
	}

	e.candidate().ambiguous = []clientv3.LeaseID{7} // it may be on a lease that is gone
	until(time.Time{})
	e.candidate().ambiguous = nil
	s.core.get(1).revoking = true
	until(time.Time{})
	s.core.get(1).revoking = false

	s.core.replaceLate(begun.Add(life), true)
	if s.core.replace != nil {
		t.Error("the lease is replaced before its time")
	}
	s.core.replaceLate(begun.Add(time.Second+life), true)
	if s.core.replace == nil {
		t.Error("the lease is not replaced though nothing can prove it")
	}
	if due, wait := s.core.renewalDue(begun.Add(time.Second), 1, s.core.elects()); due || wait != ttl/confirmsIn {
		t.Errorf("renewal is due: %v, and again in %v", due, wait)
	}
}

// Each change of a candidacy is told once, and the end of one before the call that causes it.
func TestCandidaciesAreTold(t *testing.T) {
	s := newScript(t)
	s.stand("a")
	tells := func(want ...bool) {
		t.Helper()
		var got []bool
		for _, c := range s.core.candidacies(s.now) {
			got = append(got, c.told.Created != 0)
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
	}
	tells(true)
	tells()
	s.want("a", paused)
	tells(false)
	s.settle()
	tells()
	s.want("a", present)
	s.settle()
	tells(true)
	s.core.close(s.now)
	tells(false)
}

// leads checks whether the candidate of a is in etcd and may lead, and that its entry is registered and says why it may not.
func (s *script) leads(rule string, want bool) {
	s.t.Helper()
	s.state("a", Registered)
	err := s.entries["a"].err
	quiet := want || s.entries["a"].candidate().barred
	if is, in := s.stands("a"), s.etcd.get("a?") != nil; is != want || in != want || quiet != (err == nil) {
		s.t.Errorf("%s: it stands: %v, in etcd: %v, want %v; the status says %v", rule, is, in, want, err)
	}
}

// Who cannot learn whether it leads keeps nobody from leading.
func TestE3_WhoCannotReadDoesNotStand(t *testing.T) {
	s := newScript(t)
	s.etcd.unreadable["a?"] = true
	s.stand("a")
	s.leads("it may not be read", false)
	delete(s.etcd.unreadable, "a?")
	s.run(2 * refusedMin)
	s.leads("it may be read again", true)

	h := &Handle{New(nil, Options{}), s.entries["a"]}
	h.s.core = s.core
	h.Stand(false)
	s.settle()
	s.leads("it is not to stand", false)
	h.Stand(true)
	s.settle()
	s.leads("it is to stand again", true)

	s.etcd.unreadable["a?"] = true // and so it is not deleted by itself
	h.Stand(false)
	s.run(time.Second)
	s.leads("what may not be read goes with its lease", false)
}

// stall lets a leader stand still until nothing can prove its lease, which etcd renews all the same.
func (s *script) stall() {
	s.now = s.now.Add(ttl * 95 / 100)
	s.etcd.leases[s.core.lease] = s.now.Add(ttl)
	s.core.renewed(s.now, s.core.lease, ttl, 0)
	s.renewAt = s.now.Add(ttl / 3)
}

// A leader that has stalled for nearly its TTL goes on with another lease or, where none is to be had, gives way.
func TestE4_WhoIsNotProvenGivesWay(t *testing.T) {
	s := newScript(t)
	s.stand("a")
	s.stall()
	s.settle()
	s.leads("it has another lease", true)

	s.etcd.full = true
	s.stall()
	s.run(2 * unprovenMost)
	s.leads("etcd is full", false)
	s.run(ttl)
	s.leads("etcd is full for long", false)
	s.etcd.full = false
	s.run(ttl)
	s.leads("etcd has space again", true)
}

// A leader whose calls etcd refuses, but whose lease it goes on renewing, lets the lease expire: nothing else takes its
// candidate away.
func TestE4_WhoIsLockedOutGivesWay(t *testing.T) {
	s := newScript(t)
	s.stand("a")
	s.etcd.lockedOut = true
	s.run(2*ttl + time.Second)
	if s.etcd.get("a?") != nil {
		t.Errorf("a candidate is left that may not lead: %s", s.calls)
	}
	s.etcd.lockedOut = false
	s.run(ttl)
	s.leads("it may again", true)
}

// A leader that may not write any more, and whose lease it goes on renewing, keeps its candidate for no longer than it leads
// and another TTL, though no other key can leave the lease.
func TestE4_WhoMayNotWriteGivesWay(t *testing.T) {
	for rule, do := range map[string]func(s *script){
		"its lease is not proven":       (*script).stall,
		"it is paused":                  func(s *script) { s.play("pause a") },
		"it is withdrawn":               func(s *script) { s.play("drop a") },
		"its entry is deleted":          func(s *script) { s.play("delete a; nudge") },
		"another process has its entry": func(s *script) { s.play("another a; nudge") },
	} {
		t.Run(rule, func(t *testing.T) {
			s := newScript(t)
			s.have("b")
			s.stand("a")
			s.play("forbid a a? b; run 1s")
			s.leads("nothing has to be written", true)
			do(s)
			s.run(ttl + 5*time.Second)
			if s.etcd.get("a?") != nil {
				t.Errorf("a candidate is left that may not lead: %s", s.calls)
			}
			clear(s.etcd.unwritable)
			s.run(time.Minute)
			s.state("b", Registered)
		})
	}
}

// Whatever an election has come to when etcd is full, nobody stands who cannot lead.
func TestE4_FullAtEachStep(t *testing.T) {
	for n := range 8 {
		s := newScript(t)
		calls := 0
		s.during = func() { calls++; s.etcd.full = s.etcd.full || calls == 2*n+1 }
		s.stand("a")
		s.core.replaceLease(s.now, s.core.lease, errors.New("a test"))
		s.run(time.Second)
		s.stall()
		s.run(time.Second)
		s.etcd.full, calls = true, 100
		s.stall()
		s.run(2 * unprovenMost)
		if s.etcd.get("a?") != nil && !s.stands("a") {
			t.Errorf("full from call %d on: a candidate is left that may not lead: %s", n, s.calls)
		}
		s.etcd.full = false
		s.run(time.Minute)
		s.leads("etcd has space again", true)
	}
}
