package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Each row is a rule: the statements of do make the session make the calls of
// want.
func TestCalls(t *testing.T) {
	for _, row := range []struct {
		rule, do string
		want     string // calls, separated by commas
	}{
		{"the first put creates", "add a", "grant, put a"},
		{"G1: a lease that etcd refuses to grant is asked for less and less often",
			"full; add a; run 2s", "grant, grant, grant, grant"},
		{"a key that is there is taken over", "another a; add a", "grant, put a, put a"},
		{"no lease is granted for a paused entry", "add a; pause a", ""},
		{"another process's key is not touched while this one is paused",
			"another a; paused a; run 1m", ""},
		{"a resume takes over a key that another process has put",
			"another a; paused a; run 1m; resume a", "grant, put a, put a"},
		{"a new entry's key is marked again, though an earlier entry marked it",
			"have a b; drop a; next; add a; answered; run 1s; forget; close",
			"mark b a, revoke 1"},
		{"an update is a put", "have a; update a=w", "put a"},
		{"an update that changes back writes nothing", "have a; update a=w; update a=v", ""},
		{"an update during a put is written at once",
			"have a; run 2m; forget; update a=w; next; update a=x; answered", "put a"},
		{"a drop during a put marks at once",
			"have a b; run 2m; forget; update a=w; next; drop a; answered", "mark a, delete a"},
		{"the next entry has a lease at once, though no renewal has shown that the last lease lasts",
			"have a; drop a; forget; add a", "grant, put a"},
		{"a pause marks, and deletes", "have a b; pause a", "mark a, delete a"},
		{"pauses share transactions", "have a b c; pause a; drop b", "mark a b, delete a b"},
		{"a key without room for a mark is deleted without one", "have a b; unmark a; drop a",
			"delete a"},
		{"S3: a drop of the last entry revokes the lease", "have a; drop a", "mark a, revoke 1"},
		{"a pause of the last entry keeps the lease", "have a; pause a; forget; resume a", "put a"},
		{"a paused entry whose lease is lost needs none",
			"have a; pause a; forget; revoke 1; renewal-unknown 1; run 10s", ""},
		{"a pause that is resumed at once makes no call", "have a; pause a; resume a", ""},
		{"a resume after the mark puts the key", "have a b; pause a; run 1us; resume a",
			"mark a, put a"},
		{"a resume during an unanswered mark puts the key, since the mark may arrive late",
			"have a b; pause a; next; resume a; timeout; run 100ms", "put a"},
		{"a deletion is tried again soon, though etcd has not answered for long",
			"have a b; down; update a=w; run 5s; pause a; run 4s",
			"put a, put a, put a, mark a, delete a, delete a"},
		{"a mark is tried once", "have a b; fate 1; drop a; run 2s", "mark a, delete a, check b"},
		{"the mark of a key that another process took fails, and is not repeated",
			"have a b; another a; drop a", "mark a"},
		{"a denied mark is skipped", "have a b; poison 1; drop a", "mark a, delete a"},

		{"unwatched keys are checked every 2 s", "have a b; run 2s", "check a b"},
		{"watched keys are checked less often", "have a; watched; run 7s", "check a"},
		{"G2: a deleted key is put back", "have a; delete a; run 2s", "check a, put a"},
		{"G2: not faster than once a second",
			"have a" + strings.Repeat("; run 2m; forget; delete a; check-soon; settle"+
				"; delete a; run 200ms; check-soon; run 500ms", 2),
			"check a, put a, check a"},
		{"G2: nor after a check that finds the key",
			"have a; run 2m; forget" +
				strings.Repeat("; delete a; check-soon; run 250ms; check-soon; run 250ms", 2),
			"check a, put a, check a, check a"},
		{"G1: a key that was deleted with its lease is put back at once",
			"have a; run 300ms; forget; revoke 1; check-soon; next; answered; renewal-unknown 1; run 500ms",
			"grant, put a"},
		{"G18: an overwritten key is put back", "have a; put a=x; run 2s", "check a, put a"},
		{"a deletion that a watch reports is repaired at once",
			"have a; run 1m; forget; delete a; event a; run 200ms", "put a"},
		{"a renewal at an earlier revision starts a check",
			"have a; run 2500ms; forget; renewed-behind 1", "check a"},
		{"G16: a lower revision moves all keys to another lease", "have a; ahead; run 2500ms",
			"check a, grant, put a, put a, revoke 1"},
		{"G16: a revocation's answer that overtakes an earlier call's shows no restore",
			"have a; revoked-ahead; check-soon; run 300ms", "check a"},
		{"G4: a key that was given up to another process is not taken back after a restore",
			"have a b; another a; check-soon; forget; ahead; run 2500ms",
			"read a, grant, put b, put b, revoke 1"},
		{"an older put of another process is no conflict",
			"another a; backup; have a; restore; written; run 3s",
			"check a, revoke 1, grant, put a"},
		{"a pause in a conflict reads the key first",
			"have a b; another a; check-soon; forget; pause a", "read a"},
		{"a pause in a conflict removes our value, which a restored etcd may have again",
			"have a b; backup; another a; check-soon; forget; restore; written; pause a",
			"read a, mark a, delete a"},

		{"G4: another process's key is read every 2 s", "have a; another a; check-soon; run 4s",
			"check a, read a, read a"},
		{"G4: a process has all keys of an entry or none",
			"two a; forget; another a; check-soon; run 1s", "check a a2, delete a2"},
		{"a key is taken once the other process deletes it",
			"have a; another a; check-soon; run 1s; delete a; event a", "check a, put a"},

		{"G1: a lost lease is replaced", "have a; run 56s; forget; revoke 1; run 2s",
			"check a, put a, grant, put a"},
		{"a lease that is lost soon after its grant is not replaced at once",
			"have a; lost 1; run 100ms", ""},
		{"a retired lease is revoked once all keys have moved", "have a; ended 1; run 300ms",
			"grant, put a, revoke 1"},
		{"S3: a lease whose renewal is denied is replaced", "have a; renewal-denied 1; run 300ms",
			"grant, put a, revoke 1"},
		{"a refused key is tried again on the next lease",
			"have a; hide a; run 20s; forget; revoke 1; hide a; renewal-unknown 1; run 300ms",
			"grant, put a"},
		{"a lease that a renewal does not find is lost",
			"have a; run 1m; forget; revoke 1; renewal-unknown 1", "grant, put a"},
		{"a lease whose renewal is unanswered is kept", "have a; renewal-unanswered 1", ""},
		{"a key that is named by its lease moves too", "named a; forget; ended 1; run 300ms",
			"grant, put a/2, revoke 1"},

		{"G17: a write without an answer is made again, with its guard",
			"have a; watched; fate 2; update a=w; run 2500ms", "put a, put a, check a"},
		{"G17: keys whose write hangs are written together again",
			"have a b; watched; fate 1; update a=w; update b=w; run 2200ms",
			"put a b, put a b, check a b"},
		{"G17: a deletion without an answer is made again",
			"have a b; watched; unmark a; fate 2; drop a; run 2500ms",
			"delete a, delete a, check b"},

		{"G22: a refused batch is written key by key", "add a b c d; forbid c; fault-elsewhere",
			"grant, put a b c d, put a, put b, put c, put d, attached 1"},
		{"a full etcd deletes a paused entry without the mark", "have a b; full; pause a",
			"mark a, delete a"},
		{"a resume after a refused mark makes no call",
			"have a b; full; pause a; run 1us; resume a", "mark a"},
		{"a mark is tried for a second", "have a b; later 5; pause a; later 1",
			"delete a, check b"},
		{"puts are tried again, together",
			"have b c; full; update b=w; update c=w; run 300ms; full; run 300ms",
			"put b c, put b c"},
		{"a refused value is retried alone, with backoff", "have b; large; update b=w; run 7s",
			"put b, put b, put b"},
		{"S3: a denied put is the lease's fault if another user's key hangs on it",
			"have a; poison 1; update a=w; run 300ms",
			"put a, attached 1, grant, put a, revoke 1"},
		{"a denied put is the key's fault if no other user's key is on the lease",
			"have b; forbid a; add a; run 1s", "put a, attached 1, attached 1"},
		{"a lease that may not be revoked loses its keys one by one", "have a; poison 1; drop a",
			"mark a, revoke 1, delete a"},
		{"G19: a key that may not be read is refused", "hide a; add a; run 1s",
			"grant, put a, attached 1, attached 1"},
		{"G19: an unreadable key is removed by replacing the lease",
			"have a b; hide a; unmark a; drop a; run 300ms",
			"delete a, delete a, grant, put b, revoke 1"},
		{"G19: the other keys are checked", "have a b; hide a; delete b; run 2s",
			"check a b, check a, check b, put b"},
		{"G19: a watched key that could not be read is read again soon",
			"have a; watched; run 7s; forget; hide a; check-soon; settle; hide a; run 2s",
			"check a, check a"},
		{"G19: a refused read does not delay a put",
			"have a; watched; fault-elsewhere; run 7s; forget; hide a; check-soon; settle; update a=w; run 6s; hide a; run 8s",
			"check a, put a, attached 1, attached 1, put a, attached 1, put a, attached 1"},
		{"a batch that a proxy refuses as too large is written key by key",
			"proxied; add a b; run 1s", "grant, put a b, put a, put b, attached 1"},
		{"a write that a proxy makes twice counts as made", "have a b; twice; pause a",
			"mark a, delete a"},
		{"failing writes back off, though the reads between them succeed",
			"have a b; another b; check-soon; forget; failing; update a=w; run 3s",
			"put a, put a, put a, put a, put a, put a, read b, put a"},
		{"requests are spaced while etcd has too many", "add a; forget; busy; update a=w; run 1s",
			"put a, put a, put a, put a, put a"},
		{"a retired lease keeps the keys that cannot be moved",
			"have a b; forbid a; ended 1; run 5s",
			"grant, put a b, put a, put b, attached 2, attached 2, check b, put a, attached 2, check b"},
		{"too many requests do not make a key unreadable",
			"have a; busy; run 2050ms; busy; run 200ms", "check a, check a, check a"},
		{"a new entry takes over the key of a dropped one", "have a b; drop a; add a; update a=w",
			"put a"},
		{"the keys are checked at once after the machine slept", "have a; run 5s; forget; slept",
			"check a"},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			s.play(row.do)
			s.settle()

			if got := strings.Join(s.calls, ", "); got != row.want {
				t.Errorf("the calls are\n\t%s\nwant\n\t%s\n%s", got, row.want,
					strings.Join(s.log, "\n"))
			}
		})
	}
}

func TestBatches(t *testing.T) {
	s := newScript(t)
	for i := range 250 {
		s.add(fmt.Sprint("k", i))
	}

	for _, key := range []string{"big1", "big2"} {
		s.items(key, item(key, strings.Repeat("x", 700<<10)))
	}

	s.settle()

	var sizes []int
	for _, call := range s.calls[1:] {
		sizes = append(sizes, len(strings.Fields(call))-1)
	}

	if !slices.Equal(sizes, []int{100, 100, 51, 1}) {
		t.Errorf("the batches have %v keys, want 100, 100, 51 and 1", sizes)
	}
}

// Each row is a rule: the state of entry a after do, and the results of synced.
func TestSynced(t *testing.T) {
	for _, row := range []struct {
		rule, do string
		state    State
		ok       bool
		err      string
	}{
		{"an entry is not synced before it is in etcd", "add a", Registering, false, ""},
		{"an entry is not synced with another value", "have a; update a=w", Registered, false, ""},
		{"a paused entry is synced once it is out of etcd", "have a; pause a; settle", Paused,
			true, ""},
		{"a dropped entry is not synced", "add a; granted 1; next; drop a", Registering, false,
			"closed"},
		{"G38: a resume into a conflict names the holder",
			"have a; another a; check-soon; settle; pause a; settle; resume a; settle", Conflict,
			false, "held by another process"},
		{"G38: a resume in a conflict waits for a read",
			"have a; another a; check-soon; settle; pause a; settle; resume a", Conflict, false,
			""},
		{"G38: a pause in a conflict is not synced before a read",
			"have a; another a; check-soon; settle; pause a", Conflict, false, ""},
		{"G38: a pause in a conflict is synced after a read",
			"have a; another a; check-soon; settle; pause a; settle", Paused, true, ""},
		{"G24: not synced while the mark of an earlier pause is under way",
			"have a b; pause a; next; resume a", Registered, false, ""},
		{"G24: not synced while the deletion of an earlier entry is under way",
			"have a b; unmark a; drop a; next; add a", Registered, false, ""},
		{"G24: not synced while a put of another value is under way",
			"have a; update a=w; next; update a=v", Registered, false, ""},
		{"not synced while a key is missing, though the other one has two names",
			"forbid a; plus-named a; run 1s; ended 2; run 1s", Registering, false,
			"permission denied"},
		{"a conflict names the other lease",
			"have a; another a; check-soon; settle; run 200ms", Conflict, false,
			`key "a" is held by another process, on lease 63: give each its own instance id`},
		{"a conflict reports a key without a lease", "have a; orphan a; run 3s", Conflict, false,
			`key "a" was put by someone else, on no lease: delete it, or register under another instance id`},
		{"a refusal has its reason", "forbid a; add a; settle", Registering, false,
			`key "a": etcdserver: permission denied`},
		{"G19: a read that finds another revision clears it",
			"have a; watched; run 7s; hide a; check-soon; settle; put a=v; hide a; run 3s; refresh",
			Registered, true, ""},
		{"G13: the refusal of an outdated value does not count",
			"have a; large; update a=w; next; update a=x; answered", Registered, false, ""},
		{"a full etcd", "full; add a; settle", Registering, false, "database space exceeded"},
		{"a paused entry is removed from a full etcd", "have a; full; pause a; settle", Paused,
			true, ""},
		{"an entry in etcd has no error, though a call has failed", "have a; failed", Registered,
			true, ""},
		{"an entry stays registered while it moves to another lease", "have a; ended 1; granted 2",
			Registered, true, ""},
		{"an entry is lost when its lease is not renewed", "have a; down; run 30s", Lost, false,
			`read "a": context deadline exceeded`},
		{"an entry is lost when its lease expires, though another failure is reported first",
			"have a; later 30; failed; refresh", Lost, false, "lease 1 was not renewed in time"},
		{"an entry is lost when its lease expires before etcd answers a pause",
			"have a; down; pause a; run 30s", Lost, false, "context deadline exceeded"},
		{"an entry that is being removed is not lost with its lease",
			"have a; drop a; next; timeout; lost 1", Registered, false, "closed"},
		{"G16: an entry is lost when etcd is back at a lower revision",
			"have a; ahead; check-soon; settle", Lost, false,
			"it was restored from a backup or wiped"},
		{"G24: not synced while the deletion after a pause is under way",
			"have a; pause a; next; answered; next; resume a", Registered, false, ""},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			s.play(row.do)
			e := s.entries["a"]
			s.state("a", row.state)

			ok, err := s.core.Synced(e)
			if err == nil && e.state != Conflict {
				err = s.core.errOf(s.now, e)
			}

			if ok != row.ok ||
				(err == nil) != (row.err == "") ||
				err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("synced = %v, error %v; want %v, error %q", ok, err, row.ok, row.err)
			}
		})
	}
}

// G27: from a third of its TTL on, a lease is renewed until etcd answers.
func TestRenewal(t *testing.T) {
	s := newScript(t)
	due := func(after time.Duration, want ...clientv3.LeaseID) {
		t.Helper()

		s.now = s.now.Add(after)
		leases, wait := s.core.Renewals(s.now)

		got := slices.Sorted(maps.Keys(leases))
		if !slices.Equal(got, want) || wait > tick {
			t.Errorf("leases %v are renewed, wait %v, want %v, wait at most %v", got, wait, want,
				tick)
		}
	}

	due(0)
	s.have("a")
	s.core.OnRenewal(s.now, 1, ttl, 0)
	due(ttl/3 - time.Millisecond)
	due(time.Millisecond, 1)
	due(time.Millisecond)
	due(ttl/renewAgain, 1)
	s.core.OnRenewal(s.now, 1, ttl, 0)
	s.core.OnRenewal(s.now, 7, ttl, 0) // an unknown lease
	due(ttl / renewAgain)
	s.core.replaceLease(errors.New("ended"))
	s.core.onGrant(s.now, 2, ttl)
	s.etcd.leases[2] = s.now.Add(ttl)
	s.etcd.ids = 2
	due(ttl/3, 1, 2) // until the key has moved
	s.settle()
	due(ttl/3, 2)
}

func TestClose(t *testing.T) {
	for _, row := range []struct {
		rule, do string
		finished bool
		leftover string // "" if nothing remains
	}{
		{"without a lease", "close", true, ""},
		{"while a grant is under way", "add a; next; close; lease 1; granted 1", false,
			"not revoked, and left to expire within 15s: lease 1: late"},
		{"once that lease is revoked", "add a; next; close; lease 1; granted 1; settle", true, ""},
		{"while a lease is replaced", "have a; poison 1; lease 2; granted 2; close; end", false,
			"not revoked, and left to expire within 15s: lease 1, lease 2: late"},
		{"where etcd denies it", "have a; poison 1; forbid a; close; run 3s", true,
			"not revoked, and left to expire within 15s: lease 1: late"},
	} {
		s := newScript(t)
		s.play(row.do)

		for key, e := range s.entries {
			if e.state != Closed && row.finished && row.leftover == "" {
				t.Errorf("%s: entry %s is %s, want closed", row.rule, key, e.state)
			}
		}

		leftover := ""
		if err := s.core.Leftover(errors.New("late")); err != nil {
			leftover = err.Error()
		}

		finished := s.core.Finished()
		if finished != row.finished || leftover != row.leftover {
			t.Errorf("%s: finished %v, leftover %q, want %v, %q", row.rule, finished, leftover,
				row.finished, row.leftover)
		}
	}
}

// G26: the first failure to register is reported, later ones rarely.
func TestWarnings(t *testing.T) {
	const full = "a and 0 others: grant a lease: etcdserver: mvcc: database space exceeded"

	refused := func(key string, others int) string {
		return fmt.Sprintf(
			`%s and %d others: key %[1]q: etcdserver: permission denied (a registration needs permission to read and to write its keys)`,
			key, others)
	}

	forbid := "forbid " + strings.Join(numbered(30), " ") + "; add "
	for _, row := range []struct {
		rule, do string
		want     []string // the warnings at first
		late     int      // the maximum number of warnings in the next ten minutes
	}{
		{"no answer", "down; add a b c",
			[]string{`a and 2 others: grant a lease: context deadline exceeded`}, 10},
		{"refusals of many keys", forbid + strings.Join(numbered(30), " "),
			[]string{refused("k0000", 29)}, 10},
		{"refusals of many keys, one after the other",
			forbid + strings.Join(numbered(30), "; run 10ms; add "),
			[]string{refused("k0000", 0), refused("k0001", 1), refused("k0002", 2),
				refused("k0003", 3), refused("k0004", 4)}, 11},
		{"a full etcd", "full; add a", []string{full}, 10},
		{"a full etcd, once more",
			"full; add a; run 5s; full; run 5s; full; revoke 1; renewal-unknown 1",
			[]string{full, full}, 10},
		{"all is well", "add a", nil, 0},
	} {
		t.Run(row.rule, func(t *testing.T) {
			s := newScript(t)
			s.play(row.do)
			s.run(4 * time.Second)

			var got []string
			for _, c := range s.core.warnings {
				got = append(got, fmt.Sprintf("%s and %d others: %v", c.Key, c.Others, c.Err))
			}

			if !slices.Equal(got, row.want) {
				t.Errorf("the warnings are %q, want %q", got, row.want)
			}

			s.run(10 * time.Minute)

			if n := len(s.core.warnings) - len(got); n > row.late || n < row.late-2 {
				t.Errorf("%d warnings in the next ten minutes, want %d to %d", n, row.late-2,
					row.late)
			}
		})
	}
}

// While etcd does not answer, the status of a registered entry and a log line
// have the time of the last renewal.
func TestOverdue_IsReported(t *testing.T) {
	s := newScript(t)
	s.have(numbered(5)...) // entries that are clean now
	overdue := func() error { return s.core.overdue(s.now, s.core.lease) }

	renewed := func(life time.Duration) {
		s.etcd.leases[1] = s.now.Add(life)
		s.core.get(1).life = life
		s.core.OnRenewal(s.now, 1, life, 0)
	}

	renewed(10 * time.Minute)
	s.run(5 * time.Second)
	s.play("down; run 9s")

	if err := overdue(); err != nil || len(s.core.warnings) > 0 {
		t.Errorf("9 s without an answer: overdue() = %v and warnings %v, want none", err,
			s.core.warnings)
	}

	s.play("run 31s")

	err := overdue()
	if err == nil ||
		!strings.Contains(err.Error(), "lease 1 was last renewed at") ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("40 s without an answer: overdue() = %v, want the time of the last renewal and the cause", err)
	}

	s.state("k0000", Registered)

	if n := len(s.core.warnings); n != 1 || s.core.warnings[0].Others != 4 {
		t.Errorf("%d warnings, want 1 for all entries: %v", n, s.core.warnings)
	}

	s.etcd.down = false
	s.run(3 * time.Second)

	if err := overdue(); err != nil {
		t.Errorf("etcd answers again: overdue() = %v, want nil", err)
	}

	renewed(10 * time.Minute) // no other renewal is answered
	s.run(5*time.Minute + overdueAfter)

	if err := overdue(); !errors.Is(err, errNoRenewal) {
		t.Errorf("half of the TTL without a renewal: overdue() = %v, want %v", err, errNoRenewal)
	}
}

// The registration of one more entry does not visit the clean entries, which
// this test sets to nil (G37).
func TestRegistrationSkipsCleanEntries(t *testing.T) {
	s := newScript(t)
	s.have(numbered(100)...)

	if n := len(s.core.dirty); n > 0 {
		t.Fatalf("%d of 100 registered entries are dirty, want 0", n)
	}

	clear(s.core.entries)
	s.have("one-more")

	if n := len(s.core.dirty); n > 0 {
		t.Errorf("%d entries are dirty after the registration of one more, want 0", n)
	}
}

// numbered returns n keys.
func numbered(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%04d", i)
	}

	return keys
}

// Close revokes the lease within closeTimeout, even if etcd answers none of the
// marks.
func TestMarksLeaveTimeForTheRevocation(t *testing.T) {
	s := newScript(t)
	s.have(numbered(500)...)
	s.fail = func() fate { return unanswered }
	s.core.Close(s.now)
	s.run(closeTimeout)

	if !s.core.Finished() || len(s.etcd.kvs)+len(s.etcd.leases) > 0 {
		t.Errorf("%v after Close: %d keys and leases %v remain; the calls were %q", closeTimeout,
			len(s.etcd.kvs), s.etcd.leases, s.calls)
	}
}

// If etcd denies a key, other entries move to another lease at most 15 times in
// 2 h, even if the key's name changes with the lease (S3).
func TestDeniedKey_MovesOthersRarely(t *testing.T) {
	s := newScript(t)
	s.have(numbered(5)...)

	for id := range 1000 {
		s.etcd.unwritable[fmt.Sprintf("zero/%d", id)] = true
	}

	s.items("zero", named("zero", "v"))
	leases := s.etcd.ids
	const d = 2 * time.Hour
	s.run(d)

	if n := s.etcd.ids - leases; n > 15 {
		t.Errorf("%d leases in %v, for 5 registered entries and a denied one, want at most 15", n,
			d)
	}

	if n := len(s.core.warnings); n > int(d/warnEvery)+1 {
		t.Errorf("%d warnings in %v, want at most one in %v", n, d, warnEvery)
	}
}
