package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

// walked is the core of a session, its etcd, and its calls.
type walked struct {
	now     time.Time
	core    *Core
	etcd    *model
	entries [2]*Entry // the entries of keys a and b; nil for one that was never added
	items   func(name, value string) []Item

	call  Op            // the call under way; may be nil
	limit time.Duration // the timeout of call
	began time.Time     // when call began
	lates []Op          // writes and grants that timed out, and may arrive late
	past  *model        // a backup
	hangs bool          // calls may hang, but nothing refuses or delays the removal of a key

	// how long a withdrawn entry has waited for a call that removes it, without
	// the time of calls that remove something
	waited map[*Entry]time.Duration

	newer    map[string]bool // keys that another process has put after ours
	tampered bool            // another process has changed keys
	restored bool
	rested   bool               // a settled session was checked
	broken   modelcheck.Verdict // how the first broken rule was broken

	lateCreate bool // a put of a key that was absent, or another process's, arrived late
}

var entryNames = [...]string{"a", "b"}

func startWalk() *walked {
	w := &walked{
		now:    time.Unix(1e9, 0),
		etcd:   newModel(),
		newer:  make(map[string]bool),
		waited: make(map[*Entry]time.Duration),
		items:  item,
	}

	w.core = New(func(d time.Duration) time.Duration { return d })

	return w
}

// startRegistered returns a walk with n entries in etcd.
func startRegistered(n int, items func(name, value string) []Item) *walked {
	w := startWalk()
	w.items = items

	for i := range n {
		w.add(i)
	}

	for range 3 {
		w.settle()
	}

	for _, e := range w.entries[:n] {
		if ok, err := w.core.Synced(e); !ok || err != nil {
			panic(fmt.Sprintf("%s is %s: %v, %v", e.key(), e.state, ok, err))
		}
	}

	return w
}

// plusNamed returns the items of an entry with a second key, which contains its
// lease id.
func plusNamed(name, value string) []Item {
	return append(item(name, value), named("z", value)...)
}

func (w *walked) add(i int) bool {
	if w.core.closing || w.entries[i] != nil && w.entries[i].desired != gone {
		return false
	}

	w.entries[i] = w.core.Add(w.now, nobody{}, w.items(entryNames[i], "v"), false)
	delete(w.newer, entryNames[i])

	return true
}

func (w *walked) update(i int) bool {
	e := w.entries[i]
	if e == nil || e.desired == gone {
		return false
	}

	value := "v"
	if e.items[0].Value == value {
		value = "w"
	}

	w.core.Update(w.now, e, w.items(entryNames[i], value))

	return true
}

func (w *walked) setDesired(i int, want desired) bool {
	e := w.entries[i]
	if e == nil || e.desired == gone || e.desired == want {
		return false
	}

	w.core.setDesired(w.now, e, want)

	return true
}

// pass lets time pass for etcd, with renewals of the leases.
func (w *walked) pass(d time.Duration) {
	for _, e := range w.all() {
		if e.desired == present || !w.core.remains(e) || len(w.core.held) == 0 {
			delete(w.waited, e)
		} else if waited := w.waited[e]; waited >= 0 && (w.call == nil || !Removes(w.call)) {
			w.waited[e] = waited + d
		}
	}

	for ; d > ttl/3; d -= ttl / 3 {
		w.renew(ttl / 3)
	}

	w.renew(d)
}

func (w *walked) renew(after time.Duration) {
	w.now = w.now.Add(after)
	w.etcd.renew(w.now, w.core)
	w.etcd.expire(w.now)
	w.observe()
}

// begin lets the session make its next call, for which it may wait. It reports
// false if a call is under way or none is due.
func (w *walked) begin() bool {
	if w.call != nil {
		return false
	}

	for end := w.now.Add(100 * time.Second); w.now.Before(end); {
		o, wait := w.core.Next(w.now)
		if o != nil {
			w.call = o
			w.limit = wait
			w.began = w.now
			w.judge(o)

			return true
		}

		if w.core.Finished() {
			w.core.End(w.now)
			return false
		}

		w.pass(wait)
	}

	return false
}

// judge checks whether call o breaks a rule.
func (w *walked) judge(o Op) {
	writes, ok := o.(writeOp)

	for _, e := range w.all() {
		if Removes(o) && concerns(o, e) {
			w.waited[e] = -1
		}
	}

	if !ok {
		return
	}

	for _, st := range writes.steps {
		switch {
		case !w.core.isOwn(st.lease):
			w.broken.Record("a write to a key that is not on a lease of this session: %s",
				describe(writes))
		case st.kind == put && (st.r.e.desired != present || st.value != st.r.value()):
			w.broken.Record("a put of a value that is not desired: %s", describe(writes))
		}
	}
}

// concerns reports whether call o is about a key of an entry.
func concerns(o Op, e *Entry) bool {
	var steps []step

	switch o := o.(type) {
	case RevokeOp:
		return slices.ContainsFunc(e.records, func(r *record) bool {
			return r.on(o.Lease) || r.doubted
		})

	case readOp:
		steps = o.steps
	case writeOp:
		steps = o.steps
	}

	return slices.ContainsFunc(steps, func(st step) bool { return st.r.e == e })
}

// end ends the call under way, or else the next one.
func (w *walked) end(f fate) bool {
	if w.call == nil && !w.begin() {
		return false
	}

	o := w.call
	a := Answer{}

	switch o := o.(type) {
	case writeOp, GrantOp:
		if f == delayed {
			w.lates = append(w.lates, o)
		}

	case readOp, AttachedOp:
		if f == delayed || f == unanswered {
			return false // the same as lost
		}

	default:
		if f == delayed {
			return false
		}
	}

	if f == answered || f == unanswered {
		a = w.arrive(o)
	}

	if f != answered {
		a = w.hang(o)
	}

	w.call = nil
	w.core.OnAnswer(w.now, o, a)
	w.core.warnings = nil
	w.observe()

	return true
}

// hang lets time pass until a call without an answer ends: at its timeout or,
// if a removal waits for it, when it gives way.
func (w *walked) hang(o Op) Answer {
	err := context.DeadlineExceeded
	until := w.began.Add(w.limit)
	short := w.began.Add(w.core.Patience())
	if w.core.hurry && !Removes(o) && short.Before(until) {
		until = short
		err = ErrGaveWay
	}

	w.pass(max(until.Sub(w.now), time.Millisecond))

	return Answer{Err: err}
}

// observe checks and clears the changes of state that the core has recorded.
func (w *walked) observe() {
	for _, c := range w.core.changes {
		if c.State == Conflict && c.Err == nil {
			w.broken.Record("%s is in conflict without an error", c.Key)
		}

		if c.From == c.State {
			w.broken.Record("a change of %s from %s to the same state", c.Key, c.State)
		}
	}

	w.core.changes = nil
}

// arrive applies a call to etcd.
func (w *walked) arrive(o Op) (a Answer) {
	var taken []string

	writes, _ := o.(writeOp)
	for _, st := range writes.steps {
		kv := w.etcd.get(st.r.key)
		if kv != nil && kv.Lease == theirs && w.newer[st.r.key] {
			taken = append(taken, st.r.key)
		}
	}

	a = w.etcd.do(o, w.now)
	if a.Made && len(taken) > 0 && !w.restored {
		w.broken.Record("the keys %q of a newer process were taken", taken)
	}

	return a
}

// arriveLate applies the oldest write or grant that timed out. The session gets
// the answer of a grant alone.
func (w *walked) arriveLate() bool {
	if len(w.lates) == 0 {
		return false
	}

	late := w.lates[0]
	w.lates = w.lates[1:]

	if _, grants := late.(GrantOp); grants {
		if a := w.arrive(late); a.Err == nil {
			w.core.OnLateGrant(w.now, a.Lease, a.TTL)
			w.core.warnings = nil
			w.observe()
		}

		return true
	}

	steps := late.(writeOp).steps
	creates := slices.ContainsFunc(steps, func(st step) bool {
		kv := w.etcd.get(st.r.key)
		return kv == nil || kv.Lease == theirs
	})
	if a := w.arrive(late); a.Made && creates {
		w.lateCreate = true
	}

	return true
}

// heal ends all faults of etcd, and removes the keys of the other process. It
// reports whether there were any.
func (w *walked) heal() (was bool) {
	m := w.etcd
	was = m.busy ||
		m.full ||
		m.silent ||
		m.limit < maxOps ||
		len(m.unreadable)+len(m.unwritable)+len(m.poisoned)+len(w.newer) > 0

	m.busy = false
	m.full = false
	m.silent = false
	m.limit = maxOps
	clear(m.poisoned)
	clear(m.unreadable)
	clear(m.unwritable)
	clear(w.newer)
	m.revoke(theirs)

	return was
}

// settle takes one step to the desired state without further faults, and names
// it. Late writes arrive at the worst time, at the end.
func (w *walked) settle() string {
	if w.heal() {
		return "etcd recovers"
	}

	if w.wrong() == "" {
		if w.arriveLate() {
			return "a late call arrives"
		}

		return ""
	}

	if !w.end(answered) {
		w.pass(ttl + time.Second) // a lease with an unanswered grant expires
		return "the TTL passes: " + w.wrong()
	}

	return "a call is answered"
}

// settleAndRest is settle. It also checks that a settled session makes no
// writes, and that nothing remains after Close.
func (w *walked) settleAndRest() string {
	if why := w.settle(); why != "" || w.rested {
		return why
	}

	w.rested = true
	w.rest(time.Minute) // denied revocations are retried, and delayed moves are made
	rev := w.etcd.rev
	w.rest(3 * time.Minute)

	if why := w.wrong(); why != "" || w.etcd.rev > rev {
		w.broken.Record("a settled session made %d writes: %s", w.etcd.rev-rev, why)
	}

	w.core.Close(w.now)
	w.rest(time.Second)

	err := w.core.Leftover(nil)
	if !w.core.Finished() || len(w.etcd.kvs)+len(w.etcd.leases) > 0 || err != nil {
		w.broken.Record("after Close the keys %v and the leases %v remain: %v", w.etcd.kvs,
			w.etcd.leases, err)
	}

	return "time passes, and it is closed"
}

// rest lets the session make calls for d of virtual time.
func (w *walked) rest(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		o, wait := w.core.Next(w.now)
		if o == nil {
			w.pass(min(wait, end.Sub(w.now)))
			continue
		}

		w.call = o
		w.limit = wait
		w.began = w.now
		w.end(answered)
		w.pass(time.Millisecond)
	}
}

// settleB is settle for key b alone. The permissions for key a stay as they
// are.
func (w *walked) settleB() string {
	delete(w.etcd.unwritable, "b")
	unreadable := maps.Clone(w.etcd.unreadable)
	unwritable := maps.Clone(w.etcd.unwritable)
	defer func() {
		w.etcd.unreadable = unreadable
		w.etcd.unwritable = unwritable
	}()

	e := w.entries[1]
	kv := w.etcd.get("b")
	synced, _ := w.core.Synced(e)

	registered := synced && kv != nil && kv.Value == "v" && kv.Lease != theirs
	if registered || e.desired != present && kv == nil {
		return ""
	}

	w.heal()
	w.etcd.unreadable = maps.Clone(unreadable)
	w.etcd.unwritable = maps.Clone(unwritable)

	if !w.end(answered) {
		return "no call is made"
	}

	return "a call is answered"
}

// wrong describes how etcd differs from the desired entries, "" if it does not.
func (w *walked) wrong() string {
	if w.call != nil {
		return "a call is under way"
	}

	c := w.core
	m := w.etcd

	want := make(map[string]string)
	for _, e := range w.all() {
		if e.desired == present {
			for _, item := range e.items {
				want[item.Key(c.lease)] = item.Value
			}

			if e.state != Registered || c.errOf(w.now, e) != nil {
				return fmt.Sprintf("%s is %s: %v", e.key(), e.state, c.errOf(w.now, e))
			}
		} else if e.state != Paused && e.state != Closed {
			return fmt.Sprintf("%s should be deleted, and is %s", e.key(), e.state)
		}
	}

	for key, kv := range m.kvs {
		if want[key] != kv.Value {
			return fmt.Sprintf("%s is %q in etcd, want %q", key, kv.Value, want[key])
		}

		if kv.Lease != c.lease {
			return fmt.Sprintf("%s is on lease %d, want %d", key, kv.Lease, c.lease)
		}

		delete(want, key)
	}

	for key := range want {
		return key + " is not in etcd"
	}

	for id := range m.leases {
		if id != c.lease {
			return fmt.Sprintf("lease %d remains, in addition to %d", id, c.lease)
		}
	}

	return ""
}

func (w *walked) all() []*Entry {
	return slices.DeleteFunc(slices.Clone(w.entries[:]), func(e *Entry) bool { return e == nil })
}

var leaseRules = []modelcheck.Rule[walked]{
	{Name: "calls", Broken: func(w *walked) string { return string(w.broken) }},
	{Name: "a withdrawn entry stays out of etcd", Broken: func(w *walked) string {
		for _, e := range w.all() {
			if w.restored || w.lateCreate || e.state != Paused && e.state != Closed {
				continue
			}

			for _, r := range e.records {
				if kv := w.etcd.get(r.key); kv != nil && kv.Lease != theirs {
					return fmt.Sprintf("%s is %s, and etcd has %+v", r.key, e.state, *kv)
				}
			}
		}

		return ""
	}},
	{Name: "what is taken out waits for nothing else", Broken: func(w *walked) string {
		for e, waited := range w.waited {
			if w.hangs && waited > 2*time.Second {
				return fmt.Sprintf("nothing removed %s for %v after its withdrawal", e.key(),
					waited)
			}
		}

		return ""
	}},
	{Name: "a state has an error", Broken: func(w *walked) string {
		for _, e := range w.all() {
			out := e.state == Lost || e.state == Conflict && w.core.conflict(e) != nil
			err := w.core.errOf(w.now, e)
			if out && (err == nil || err.Error() == "lease 0 was not renewed in time") {
				return fmt.Sprintf("no error says why %s is %s", e.key(), e.state)
			}
		}

		return ""
	}},
	{Name: "a synced entry is in etcd", Broken: func(w *walked) string {
		for _, e := range w.all() {
			if ok, _ := w.core.Synced(e); !ok || e.desired != present || w.tampered {
				continue
			}

			for i, item := range e.items {
				kv := w.etcd.get(e.records[i].key)
				if kv == nil || kv.Value != item.Value {
					return fmt.Sprintf("%s is %s with %q, and etcd has %+v", e.records[i].key,
						e.state, item.Value, kv)
				}
			}
		}

		return ""
	}},
}

// leaseEvents are the events of walks.
var leaseEvents = []modelcheck.Event[walked]{
	{Name: "add a", Do: func(w *walked) bool { return w.add(0) }},
	{Name: "add b", Do: func(w *walked) bool { return w.add(1) }},
	{Name: "update a", Do: func(w *walked) bool { return w.update(0) }},
	{Name: "pause a", Do: func(w *walked) bool { return w.setDesired(0, paused) }},
	{Name: "resume a", Do: func(w *walked) bool { return w.setDesired(0, present) }},
	{Name: "drop a", Do: func(w *walked) bool { return w.setDesired(0, gone) }},
	{Name: "drop b", Do: func(w *walked) bool { return w.setDesired(1, gone) }},
	{Name: "close", Do: func(w *walked) bool {
		if w.core.closing {
			return false
		}

		w.core.Close(w.now)

		return true
	}},

	{Name: "the next call begins", Do: (*walked).begin},
	{Name: "a call is answered", Do: func(w *walked) bool { return w.end(answered) }},
	{Name: "a call is lost", Do: func(w *walked) bool { return w.end(lost) }},
	{Name: "a call is applied and not answered", Do: func(w *walked) bool {
		return w.end(unanswered)
	}},
	{Name: "a call is delayed", Do: func(w *walked) bool { return w.end(delayed) }},
	{Name: "a delayed call arrives", Do: (*walked).arriveLate},
	{Name: "a call hangs for a second", Do: func(w *walked) bool {
		if w.call == nil {
			return false
		}

		ends := w.began.Add(w.limit)
		if w.core.hurry && !Removes(w.call) || !w.now.Add(time.Second).Before(ends) {
			return w.end(lost)
		}

		w.pass(time.Second)

		return true
	}},
	{Name: "a second passes", Do: func(w *walked) bool {
		w.pass(time.Second)
		return true
	}},
	{Name: "the TTL passes", Do: func(w *walked) bool {
		w.pass(ttl + time.Second)
		return true
	}},
	{Name: "renewals stop", Do: func(w *walked) bool {
		could := !w.etcd.silent
		w.etcd.silent = true
		w.tampered = true

		return could
	}},
	{Name: "the keepalive ends", Do: func(w *walked) bool {
		if w.core.lease == 0 {
			return false
		}

		w.core.replaceLease(errors.New("ended"))

		return true
	}},

	{Name: "a is deleted", Do: func(w *walked) bool { return w.delete("a") }},
	{Name: "b is deleted", Do: func(w *walked) bool { return w.delete("b") }},
	{Name: "a is overwritten", Do: func(w *walked) bool {
		kv := w.etcd.get("a")
		if kv == nil || kv.Lease == theirs {
			return false
		}

		w.etcd.put("a", "x", kv.Lease)
		w.tampered = true

		return true
	}},
	{Name: "another process takes a", Do: func(w *walked) bool {
		if kv := w.etcd.get("a"); kv != nil && kv.Lease == theirs {
			return false
		}

		if e := w.entries[0]; e != nil && len(e.records) > 0 && e.records[0].claimed() {
			w.newer["a"] = true
		}

		w.etcd.put("a", "x", theirs)
		w.tampered = true

		return true
	}},
	{Name: "another process gives up a", Do: func(w *walked) bool {
		if kv := w.etcd.get("a"); kv == nil || kv.Lease != theirs {
			return false
		}

		delete(w.newer, "a")

		return w.delete("a")
	}},
	{Name: "the lease is revoked", Do: func(w *walked) bool {
		if _, ok := w.etcd.leases[w.core.lease]; !ok {
			return false
		}

		w.etcd.revoke(w.core.lease)
		w.tampered = true

		return true
	}},
	{Name: "a renewal finds the lease gone", Do: func(w *walked) bool {
		id := w.core.lease
		if _, ok := w.etcd.leases[id]; ok || id == 0 {
			return false
		}

		w.core.OnRenewalFailed(w.now, id, rpctypes.ErrLeaseNotFound)

		return true
	}},
	{Name: "the lease gets a key that may not be written", Do: func(w *walked) bool {
		if w.core.lease == 0 {
			return false
		}

		w.etcd.poisoned[w.core.lease] = true

		return true
	}},
	{Name: "the limit of operations changes", Do: func(w *walked) bool {
		w.etcd.limit = maxOps + 1 - w.etcd.limit
		return true
	}},
	{Name: "a watch reports a", Do: func(w *walked) bool {
		w.core.OnWatch(w.now, "a", w.etcd.get("a"), w.etcd.rev)
		return true
	}},

	{Name: "reads of a are denied, or allowed again", Do: func(w *walked) bool {
		flip(w.etcd.unreadable, "a")
		return true
	}},
	{Name: "writes of a are denied, or allowed again", Do: func(w *walked) bool {
		flip(w.etcd.unwritable, "a")
		return true
	}},
	{Name: "writes of b are denied, or allowed again", Do: func(w *walked) bool {
		flip(w.etcd.unwritable, "b")
		return true
	}},
	{
		Name: "writes under the next lease's name are denied, or allowed again",
		Do: func(w *walked) bool {
			flip(w.etcd.unwritable, fmt.Sprintf("z/%d", w.etcd.ids+1))
			return true
		}},
	{Name: "etcd becomes full, or has space again", Do: func(w *walked) bool {
		w.etcd.full = !w.etcd.full
		return true
	}},
	{Name: "etcd becomes busy, or idle again", Do: func(w *walked) bool {
		w.etcd.busy = !w.etcd.busy
		return true
	}},

	{Name: "etcd recovers", Do: (*walked).heal},
	{Name: "etcd is backed up", Do: func(w *walked) bool {
		w.past = w.etcd.clone()
		return true
	}},
	{Name: "etcd is restored", Do: (*walked).restore},
	{Name: "etcd is restored, and others have written since", Do: func(w *walked) bool {
		could := w.restore()
		w.etcd.rev += 1000

		return could
	}},
	{Name: "the connection is back", Do: func(w *walked) bool {
		w.core.OnReconnect(w.now)
		return true
	}},
}

func (w *walked) restore() bool {
	if w.past == nil {
		return false
	}

	ids := w.etcd.ids
	w.etcd.restore(w.now, w.past)
	w.etcd.ids = ids
	w.restored = true
	w.tampered = true

	return true
}

func flip(m map[string]bool, key string) {
	m[key] = !m[key]
	if !m[key] {
		delete(m, key)
	}
}

func (w *walked) delete(key string) bool {
	if w.etcd.get(key) == nil {
		return false
	}

	w.etcd.remove(key)
	w.tampered = true

	return true
}

func leaseWalk(start func() *walked, events ...string) modelcheck.World[walked] {
	world := modelcheck.World[walked]{
		Start:  start,
		Rules:  leaseRules,
		Settle: (*walked).settle,
		Within: 60,
	}
	for _, e := range leaseEvents {
		if slices.Contains(events, e.Name) {
			world.Events = append(world.Events, e)
		}
	}

	if len(world.Events) != len(events) {
		panic("no such event")
	}

	return world
}

// lifeOf returns a walk with all events except close: the session is closed
// only at the end.
func lifeOf(items func(name, value string) []Item) modelcheck.World[walked] {
	var events []string
	for _, e := range leaseEvents {
		if e.Name != "close" {
			events = append(events, e.Name)
		}
	}

	world := leaseWalk(func() *walked {
		w := startWalk()
		w.items = items

		return w
	}, events...)

	answered := slices.IndexFunc(world.Events, func(e modelcheck.Event[walked]) bool {
		return e.Name == "a call is answered"
	})
	for range events { // many times, so that keys are often in etcd
		world.Events = append(world.Events, world.Events[answered])
	}

	world.Settle = (*walked).settleAndRest
	world.Within = 400

	return world
}

func TestWalk(t *testing.T) {
	walk := func(name string, start func() *walked, events ...string) {
		t.Run(name, func(t *testing.T) {
			modelcheck.Walk(t, 10000, 20, leaseWalk(start, events...))
		})
	}

	registered := func(n int) func() *walked {
		return func() *walked { return startRegistered(n, item) }
	}
	calls := []string{"the next call begins", "a call is answered", "a call is lost",
		"a second passes"}

	rights := []string{"update a", "pause a", "resume a", "drop b", "a call is answered",
		"a call is lost", "a call is delayed", "a second passes", "a is deleted",
		"b is deleted", "another process takes a",
		"reads of a are denied, or allowed again", "writes of a are denied, or allowed again",
		"etcd becomes full, or has space again", "etcd becomes busy, or idle again"}

	walk("calls end in every way", startWalk,
		append(calls, "add a", "update a", "pause a", "resume a", "drop a", "close",
			"a call is applied and not answered", "a call is delayed", "a delayed call arrives",
			"the keepalive ends")...)

	t.Run("calls hang", func(t *testing.T) {
		hanging := func() *walked {
			w := startRegistered(2, item)
			w.hangs = true

			return w
		}

		modelcheck.Walk(t, 10000, 30, leaseWalk(hanging, "the next call begins",
			"a call is answered", "a call is lost", "a call hangs for a second",
			"a call is applied and not answered", "a call is delayed", "a delayed call arrives",
			"add a", "update a", "pause a", "resume a", "drop a", "drop b", "close",
			"the keepalive ends"))
	})

	walk("other processes change keys", registered(1), append(calls, "add a", "update a",
		"pause a", "resume a", "drop a", "the TTL passes", "renewals stop", "a is deleted",
		"a is overwritten", "another process takes a", "another process gives up a",
		"the lease is revoked", "a watch reports a")...)

	calling := func() *walked {
		w := startRegistered(1, item)
		w.update(0)
		w.begin()

		return w
	}

	walk("the lease goes while a call is under way", calling,
		append(calls, "update a", "pause a", "resume a", "drop a",
			"a call is applied and not answered", "a is deleted", "the lease is revoked",
			"a renewal finds the lease gone")...)

	walk("a write arrives late", registered(2), append(calls, "update a", "pause a", "resume a",
		"a call is applied and not answered", "a call is delayed", "a delayed call arrives")...)

	moving := func() *walked {
		w := startRegistered(1, item)
		w.update(0)
		w.core.replaceLease(errors.New("ended"))

		return w
	}

	walk("a write arrives late while the lease is replaced", moving, append(calls, "update a",
		"pause a", "resume a", "a call is applied and not answered", "a call is delayed",
		"a delayed call arrives", "a is deleted", "the lease is revoked")...)

	startsPaused := func() *walked {
		w := startWalk()
		w.etcd.put("a", "x", theirs)
		w.entries[0] = w.core.Add(w.now, nobody{}, item("a", "v"), true)

		return w
	}

	walk("G32: an entry starts paused, and another process has its key", startsPaused,
		append(calls, "pause a", "resume a", "drop a", "a call is applied and not answered",
			"a call is delayed", "a delayed call arrives", "another process takes a",
			"another process gives up a", "reads of a are denied, or allowed again")...)

	conflicting := func() *walked {
		w := startRegistered(1, item)
		w.etcd.put("a", "x", theirs)
		w.newer["a"] = true
		w.tampered = true
		w.core.CheckSoon(w.now)

		for w.entries[0].state != Conflict {
			w.end(answered)
		}

		return w
	}

	walk("G38: an entry in conflict is paused and resumed", conflicting, append(calls, "pause a",
		"resume a", "another process takes a", "another process gives up a",
		"reads of a are denied, or allowed again")...)

	walk("permissions change", registered(2), rights...)
	t.Run("G19: a denied read affects one key", func(t *testing.T) {
		w := leaseWalk(registered(2), rights...)
		w.Settle = (*walked).settleB
		modelcheck.Walk(t, 10000, 20, w)
	})

	t.Run("G31: a refused entry does not block others", func(t *testing.T) {
		refused := func() *walked {
			w := startWalk()
			w.etcd.unwritable["a"] = true
			w.etcd.unwritable["b"] = true
			w.add(0)
			w.add(1)

			for w.entries[0].refused == nil || w.entries[1].refused == nil {
				w.end(answered)
			}

			return w
		}

		w := leaseWalk(refused, append(calls, "update a", "pause a", "resume a",
			"the lease is revoked", "writes of a are denied, or allowed again",
			"writes of b are denied, or allowed again")...)
		w.Settle = (*walked).settleB
		modelcheck.Walk(t, 10000, 20, w)
	})

	twoKeys := func() *walked { return startRegistered(1, plusNamed) }
	walk("an entry has two keys, one with its lease's id", twoKeys, append(calls, "add a",
		"update a", "pause a", "resume a", "drop a", "close",
		"a call is applied and not answered", "a call is delayed", "a delayed call arrives",
		"the keepalive ends", "a is deleted", "another process takes a",
		"the lease is revoked")...)

	backedUp := func() *walked {
		w := startRegistered(2, item)
		w.past = w.etcd.clone()

		return w
	}

	walk("etcd is restored", backedUp, append(calls, "update a", "pause a", "resume a", "drop b",
		"the TTL passes", "etcd is backed up", "etcd is restored",
		"etcd is restored, and others have written since", "the connection is back")...)

	t.Run("lives", func(t *testing.T) { modelcheck.Walk(t, 2000, 400, lifeOf(item)) })
}

// named returns the items of an entry of one key, which contains its lease id.
func named(prefix, value string) []Item {
	key := func(id clientv3.LeaseID) string { return fmt.Sprintf("%s/%d", prefix, id) }
	return []Item{{Key: key, Value: value}}
}

// An unanswered deletion that arrives late fails its guard, though the put
// after it had no answer either.
func TestDoubt_LateDeletionFails(t *testing.T) {
	w := startRegistered(2, item)
	w.setDesired(0, paused)
	w.end(lost)    // the mark
	w.end(delayed) // the deletion
	w.setDesired(0, present)
	w.end(lost) // the put

	for ok := false; !ok; ok, _ = w.core.Synced(w.entries[0]) {
		w.end(answered)
	}

	w.arriveLate()

	if w.etcd.get("a") == nil {
		t.Error("the late deletion was applied, want it refused by its guard after the put")
	}
}
