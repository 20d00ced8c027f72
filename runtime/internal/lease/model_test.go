package lease

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// model is as much of an etcd as a session meets. Real etcd has its own tests, in integration.
type model struct {
	rev    int64
	kvs    map[string]keyValue
	leases map[clientv3.LeaseID]time.Time // when each expires
	ids    clientv3.LeaseID

	// What is wrong with it.
	down       bool                      // nothing is answered
	busy       bool                      // reads and writes are too many requests
	full       bool                      // the NOSPACE alarm
	limit      int                       // the operations of a transaction
	large      bool                      // every write is too large
	unreadable map[string]bool           // the keys that may not be read
	unwritable map[string]bool           // the keys that may not be written
	poisoned   map[clientv3.LeaseID]bool // the leases with a key that may not be written
}

func newModel() *model {
	return &model{
		rev: 100, kvs: make(map[string]keyValue), leases: make(map[clientv3.LeaseID]time.Time), limit: MaxOps,
		unreadable: make(map[string]bool), unwritable: make(map[string]bool), poisoned: make(map[clientv3.LeaseID]bool),
	}
}

func (m *model) clone() *model {
	c := *m
	c.kvs, c.leases = make(map[string]keyValue), make(map[clientv3.LeaseID]time.Time)
	for k, v := range m.kvs {
		c.kvs[k] = v
	}
	for k, v := range m.leases {
		c.leases[k] = v
	}
	return &c
}

// restore goes back to an earlier state, in which each lease has its whole TTL again.
func (m *model) restore(now time.Time, past *model) {
	m.rev, m.kvs, m.leases = past.rev, past.clone().kvs, past.clone().leases
	for id := range m.leases {
		m.leases[id] = now.Add(ttl)
	}
}

func (m *model) put(key, value string, lease clientv3.LeaseID) {
	m.rev++
	m.set(key, value, lease)
}

func (m *model) set(key, value string, lease clientv3.LeaseID) {
	created := m.rev
	if before, ok := m.kvs[key]; ok {
		created = before.created
	}
	m.kvs[key] = keyValue{value, lease, m.rev, created}
}

func (m *model) remove(key string) {
	if _, ok := m.kvs[key]; ok {
		m.rev++
		delete(m.kvs, key)
	}
}

func (m *model) revoke(id clientv3.LeaseID) {
	delete(m.leases, id)
	for key, kv := range m.kvs {
		if kv.lease == id {
			m.remove(key)
		}
	}
}

func (m *model) expire(now time.Time) {
	for id, at := range m.leases {
		if id != theirs && now.After(at) {
			m.revoke(id)
		}
	}
}

// get returns what is under a key.
func (m *model) get(key string) *keyValue {
	kv, ok := m.kvs[key]
	if !ok {
		return nil
	}
	return &kv
}

// write is a transaction of steps, as etcd does it.
func (m *model) write(steps []step) (made bool, kvs []*keyValue, err error) {
	if m.busy {
		return false, nil, rpctypes.ErrTooManyRequests
	}
	if m.large {
		return false, nil, rpctypes.ErrRequestTooLarge
	}
	if len(steps) > m.limit {
		return false, nil, rpctypes.ErrTooManyOps
	}
	made = true
	for _, st := range steps {
		guarded, puts := st.kind != putBlind, st.kind != remove
		if m.unwritable[st.s.key] || guarded && m.unreadable[st.s.key] || puts && m.poisoned[st.lease] {
			return false, nil, rpctypes.ErrPermissionDenied
		}
		if puts && m.full {
			return false, nil, rpctypes.ErrNoSpace
		}
		kvs = append(kvs, m.get(st.s.key))
		made = made && m.holds(st)
	}
	if !made {
		return false, kvs, nil
	}
	for _, st := range steps {
		if _, ok := m.leases[st.lease]; !ok && st.kind != remove {
			return false, nil, rpctypes.ErrLeaseNotFound
		}
	}
	m.rev++
	for _, st := range steps {
		if st.kind == remove {
			delete(m.kvs, st.s.key)
		} else {
			m.set(st.s.key, st.value, st.lease)
		}
	}
	return true, nil, nil
}

// fate is what becomes of a call.
type fate int

const (
	answered   fate = iota
	lost            // it never arrives, and its time runs out
	unanswered      // it is carried out, and its time runs out
	delayed         // its time runs out, and it may arrive later
)

// answer is etcd's to a call.
type answer struct {
	lease clientv3.LeaseID // that was granted
	made  bool
	kvs   []*keyValue
	rev   int64
	err   error
}

// do carries a call out.
func (m *model) do(o op, now time.Time) (a answer) {
	switch o := o.(type) {
	case grantOp:
		if m.full {
			return answer{err: rpctypes.ErrNoSpace}
		}
		m.ids++
		a.lease, m.leases[m.ids] = m.ids, now.Add(ttl)
	case revokeOp:
		if m.poisoned[o.lease] {
			return answer{err: rpctypes.ErrPermissionDenied}
		}
		if _, ok := m.leases[o.lease]; !ok {
			return answer{err: rpctypes.ErrLeaseNotFound}
		}
		m.revoke(o.lease)
	case probeOp:
		a.kvs, a.err = m.read(o.probes)
	case writeOp:
		a.made, a.kvs, a.err = m.write(o.steps)
	}
	a.rev = m.rev
	return a
}

// tell tells a core of the answer to a call, or that there was none.
func (a answer) tell(c *core, now time.Time, o op) {
	switch o := o.(type) {
	case grantOp:
		if a.err != nil {
			c.grantFailed(now, a.err)
			return
		}
		c.granted(now, now, a.lease, ttl)
	case revokeOp:
		if a.err != nil {
			c.revokeFailed(now, o.lease, a.err)
			return
		}
		c.revoked(now, o.lease, a.rev)
	case probeOp:
		if a.err != nil {
			c.probeFailed(now, o.probes, a.err)
			return
		}
		c.probed(now, o.probes, a.kvs, a.rev)
	case writeOp:
		if a.err != nil {
			c.writeFailed(now, o.steps, a.err)
			return
		}
		c.wrote(now, o.steps, a.made, a.kvs, a.rev)
	}
}

func (m *model) holds(st step) bool {
	kv := m.kvs[st.s.key]
	switch st.kind {
	case putBlind:
		return true
	case remove:
		return kv.lease == st.lease && kv.rev != 0
	}
	return kv.rev == st.rev
}

func (m *model) read(probes []probe) ([]*keyValue, error) {
	if m.busy {
		return nil, rpctypes.ErrTooManyRequests
	}
	same := probes[0].compare
	var kvs []*keyValue
	for _, l := range probes {
		if m.unreadable[l.s.key] {
			return nil, rpctypes.ErrPermissionDenied
		}
		same = same && l.rev == m.kvs[l.s.key].rev
		kvs = append(kvs, m.get(l.s.key))
	}
	if len(probes) > m.limit {
		return nil, rpctypes.ErrTooManyOps
	}
	if same {
		return nil, nil
	}
	return kvs, nil
}

const ttl = 15 * time.Second

var worlds = flag.Int("worlds", 100, "how many random lives each test of the session lives")

// late is a write that arrives at an instant, for nobody to hear of.
type late struct {
	at    time.Time
	steps []step
}

// life is a session on a model, in virtual time.
type life struct {
	t     testing.TB
	rand  *rand.Rand
	now   time.Time
	start time.Time
	etcd  *model
	core  *core
	lates []late
	past  []*model // backups
	log   []string

	calls   []string // as the rows of TestCalls have them
	renewAt time.Time
	seen    map[string]bool // the changes of state, "from --> to"
	phase   string          // of the lease
	// fail decides about the fate of a write. A revocation is answered, or done but not answered.
	fail func() fate
	// during is called while a call is under way: before and after what etcd does.
	during func()
}

func newLife(t testing.TB, seed uint64) *life {
	now := time.Unix(1e9, 0)
	l := &life{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: now, start: now, etcd: newModel(), fail: func() fate { return answered }, during: func() {},
		seen: make(map[string]bool), phase: "none"}
	l.core = newCore(ttl, func(d time.Duration) time.Duration { return d - time.Duration(l.rand.Int64N(int64(d)/4+1)) })
	return l
}

func (l *life) note(format string, args ...any) {
	l.log = append(l.log, fmt.Sprintf("%8.3f rev %d: ", l.now.Sub(l.start).Seconds(), l.etcd.rev)+fmt.Sprintf(format, args...))
}

// observe notes what changed.
func (l *life) observe() {
	for _, c := range l.core.changes {
		from := c.from.String()
		if c.from == Initial {
			from = "[*]"
		}
		l.seen[from+" --> "+c.to.String()] = true
	}
	l.core.changes = nil
	phase := "held"
	switch {
	case l.core.lease == 0:
		phase = "none"
	case l.core.replace != nil:
		phase = "replacing"
	}
	if phase != l.phase {
		l.seen[l.phase+" --> "+phase] = true
		l.phase = phase
	}
}

// run lets the session work for a time.
func (l *life) run(d time.Duration) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.elapse()
		l.observe()
		o, wait := l.core.next(l.now)
		if o == nil {
			l.now = l.now.Add(min(wait, end.Sub(l.now), 100*time.Millisecond))
			continue
		}
		l.calls = append(l.calls, describe(o))
		l.during()
		l.call(o)
		l.now = l.now.Add(time.Millisecond)
		l.observe()
	}
	l.elapse()
}

// kinds are the names of the kinds of steps in the rows of TestCalls, and in logs.
var kinds = [...]string{put: "put", putBlind: "blind", mark: "mark", remove: "remove"}

// describe returns a call as the rows of TestCalls have it.
func describe(o op) string {
	var words []string
	switch o := o.(type) {
	case grantOp:
		return "grant"
	case revokeOp:
		return fmt.Sprint("revoke ", o.lease)
	case probeOp:
		words = append(words, map[bool]string{true: "check", false: "read"}[o.probes[0].compare])
		for _, l := range o.probes {
			words = append(words, l.s.key)
		}
	case writeOp:
		last := kind(-1)
		for _, st := range o.steps {
			if st.kind != last {
				words = append(words, kinds[st.kind])
				last = st.kind
			}
			words = append(words, st.s.key)
		}
	}
	return strings.Join(words, " ")
}

// elapse does what time does to etcd.
func (l *life) elapse() {
	l.lates = slices.DeleteFunc(l.lates, func(w late) bool {
		if l.now.Before(w.at) {
			return false
		}
		res, _, err := l.etcd.write(w.steps)
		l.note("late: %s: %v %v", describe(writeOp{w.steps}), res, err)
		return true
	})
	l.etcd.expire(l.now)
	if id := l.core.lease; id != 0 && !l.now.Before(l.renewAt) && !l.etcd.down {
		l.renewAt = l.now.Add(ttl / 3)
		if _, ok := l.etcd.leases[id]; ok {
			l.etcd.leases[id] = l.now.Add(ttl)
			l.core.renewed(l.now, id, ttl, 0)
			l.core.confirm(l.now, id)
		} else {
			l.core.keepAliveEnded(l.now, id, errors.New("ended"))
		}
	}
}

// call has the call that the session asks for come to an end.
func (l *life) call(o op) {
	f, a := answered, answer{}
	switch o := o.(type) {
	case writeOp:
		f = l.fail()
	case revokeOp:
		if _, ok := l.etcd.leases[o.lease]; ok && l.fail() == unanswered {
			f = unanswered
		}
	}
	if l.etcd.down {
		f = lost
	}
	if f == delayed {
		late := late{l.now.Add(timeoutOf(o) + time.Duration(l.rand.Int64N(int64(5*time.Second)))), o.(writeOp).steps}
		l.lates = append(l.lates, late)
	}
	if f == answered || f == unanswered {
		a = l.etcd.do(o, l.now)
	}
	l.note("%s, fate %d: %v %v", describe(o), f, a.made, a.err)
	if f != answered {
		l.now = l.now.Add(timeoutOf(o))
		a = answer{err: context.DeadlineExceeded}
	}
	l.during()
	a.tell(l.core, l.now, o)
	if a.lease != 0 {
		l.renewAt = l.now
	}
}

// item is a key with a mark.
func item(key, value string) []Item {
	return []Item{{Key: func(clientv3.LeaseID) string { return key }, Value: value, Leaving: value + "!"}}
}

// wrong says how etcd differs from what the session was told; "" if it does not.
func (l *life) wrong(entries []*entry) string {
	want := make(map[string]string)
	for _, e := range entries {
		if e.want == present {
			for _, item := range e.items {
				want[item.Key(l.core.lease)] = item.Value
			}
			if e.state != Registered || e.err != nil {
				return fmt.Sprintf("%s is %s: %v", e.key(), e.state, e.err)
			}
		} else if e.state != Paused && e.state != Closed {
			return fmt.Sprintf("%s is to go, and %s", e.key(), e.state)
		}
	}
	for key, kv := range l.etcd.kvs {
		if want[key] != kv.value {
			return fmt.Sprintf("%s is %q in etcd, want %q", key, kv.value, want[key])
		}
		if kv.lease != l.core.lease {
			return fmt.Sprintf("%s is on lease %d, want %d", key, kv.lease, l.core.lease)
		}
		delete(want, key)
	}
	for key := range want {
		return key + " is not in etcd"
	}
	for id := range l.etcd.leases {
		if id != l.core.lease {
			return fmt.Sprintf("lease %d is left, beside %d", id, l.core.lease)
		}
	}
	return ""
}

// told is what a user does with entries, at random.
type told struct {
	*life
	items   func(i int, value string) []Item // of the entry i
	entries []*entry
}

func (u *told) act() {
	i, value := u.rand.IntN(len(u.entries)), fmt.Sprint("v", u.rand.IntN(1000))
	items := u.items(i, value)
	e := u.entries[i]
	if e == nil || e.want == gone {
		u.note("add %d=%s", i, value)
		e, err := u.core.add(u.now, items, u.rand.IntN(5) == 0)
		if err != nil {
			u.t.Fatal(err)
		}
		u.entries[i] = e
		return
	}
	switch u.rand.IntN(4) {
	case 0:
		u.note("update %d=%s", i, value)
		if err := e.update(items, u.core.lease); err != nil {
			u.t.Fatal(err)
		}
		e.retry()
	case 1:
		u.note("pause %d", i)
		e.setWant(paused)
	case 2:
		u.note("resume %d", i)
		e.setWant(present)
	default:
		u.note("drop %d", i)
		e.setWant(gone)
	}
	u.core.refresh(u.now)
}

func (u *told) all() []*entry {
	return slices.DeleteFunc(slices.Clone(u.entries), func(e *entry) bool { return e == nil })
}

func oneItem(i int, value string) []Item { return item(fmt.Sprint("k", i), value) }

// converge fails the test unless etcd is as it was said to be within a time.
func (u *told) converge(seed uint64, within time.Duration) {
	u.t.Helper()
	end := u.now.Add(within)
	for {
		why := u.wrong(u.all())
		if why == "" {
			return
		}
		if !u.now.Before(end) {
			u.t.Fatalf("seed %d: not within %v: %s\n%s", seed, within, why, strings.Join(u.log, "\n"))
		}
		u.run(100 * time.Millisecond)
	}
}

// mixedItems returns the items of an entry: one to three keys, with a mark or without, some of them with the lease's
// id.
func mixedItems(i int, value string) []Item {
	json := item(fmt.Sprint("k", i), value)[0]
	kitex := item(fmt.Sprint("x", i), "x"+value)[0]
	plain := Item{Key: func(clientv3.LeaseID) string { return fmt.Sprint("p", i) }, Value: "addr"}
	zero := named(fmt.Sprint("z", i), "addr"+value)[0]
	return [][]Item{{json}, {json, kitex, zero}, {zero}, {plain, json}, {zero, json}}[i%5]
}

// Faults of all kinds, and then none: whatever was said last is what etcd has, once refused keys have been tried again.
// Entries have one key or several, and are told to change while calls are under way.
func TestEverything(t *testing.T) {
	seen := make(map[string]bool)
	rareLives(t, seen)
	var everything []string
	for _, d := range disturbances {
		everything = append(everything, d.name)
	}
	few := max(1, *worlds/10) // each takes ten times as long as one of entries with one key
	for _, row := range []struct {
		name    string
		seeds   int
		items   func(i int, value string) []Item
		acts    bool     // also while a call is under way
		without []string // disturbances
		within  time.Duration
	}{
		{"one key each", 3 * *worlds, oneItem, false, nil, 100 * time.Second}, // the rarest change of state is in one life of 200
		{"late writes alone", few, mixedItems, true, everything, 3 * time.Second},
		{"all rights", few, mixedItems, true, []string{"unreadable", "unwritable", "poison"}, 100 * time.Second},
		{"no restores", few, mixedItems, true, []string{"backup", "restore"}, 100 * time.Second},
		{"everything", few, mixedItems, true, nil, 100 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			for seed := range uint64(row.seeds) {
				u := &told{life: newLife(t, seed), entries: make([]*entry, 6), items: row.items}
				u.seen = seen
				u.during = func() {
					for row.acts && u.rand.IntN(4) == 0 {
						u.act()
					}
				}
				u.fail = func() fate {
					if u.rand.IntN(6) > 0 {
						return answered
					}
					return lost + fate(u.rand.IntN(3))
				}
				for range 60 {
					u.disturb(row.without...)
					u.run(time.Duration(u.rand.Int64N(int64(2 * time.Second))))
				}
				u.heal()
				for len(u.lates) > 0 {
					u.run(50 * time.Millisecond)
				}
				u.converge(seed, row.within)
				u.peace(seed)
			}
		})
	}
	checkDiagrams(t, seen)
}

// heal ends all that is wrong with etcd.
func (u *told) heal() {
	u.fail, u.during = func() fate { return answered }, func() {}
	m := u.etcd
	m.down, m.full, m.limit = false, false, MaxOps
	m.revoke(theirs)
	m.unreadable, m.unwritable, m.poisoned = map[string]bool{}, map[string]bool{}, map[clientv3.LeaseID]bool{}
	u.note("healed")
}

// peace fails the test unless etcd stays as it was said to be without another write, and a Close leaves nothing.
func (u *told) peace(seed uint64) {
	u.t.Helper()
	// Writes arrive late, leases were not to be revoked, and a keepalive that keeps ending delays a move by up to 30 s.
	u.run(time.Minute)
	m, rev := u.etcd, u.etcd.rev
	u.run(3 * time.Minute)
	if why := u.wrong(u.all()); why != "" || m.rev > rev {
		u.t.Fatalf("seed %d: %d writes in peace: %s\n%s", seed, m.rev-rev, why, strings.Join(u.log, "\n"))
	}
	u.core.close(u.now)
	u.run(time.Second)
	if left := u.core.leftover(nil); !u.core.finished() || len(m.kvs)+len(m.leases) > 0 || left != nil {
		u.t.Fatalf("seed %d: closed, and left %v, %v: %v\n%s", seed, m.kvs, m.leases, left, strings.Join(u.log, "\n"))
	}
}

// rareLives has changes of state that hardly ever happen at random.
func rareLives(t *testing.T, seen map[string]bool) {
	for _, text := range []string{
		"have a b; another a; pause a; settle; resume a; settle",
		"have a; unmark a; pause a; next; resume a; run 1s",
	} {
		s := newScript(t)
		s.seen = seen
		s.play(text)
	}
}

// disturbances are what may happen to the session or its etcd, each to one of its keys.
var disturbances = []struct {
	name string
	do   func(u *told, key string)
}{
	{"down", func(u *told, _ string) { u.etcd.down = !u.etcd.down }},
	{"full", func(u *told, _ string) { u.etcd.full = !u.etcd.full }},
	{"limit", func(u *told, _ string) { u.etcd.limit = 1 + u.rand.IntN(4) }},
	{"unreadable", func(u *told, key string) { u.etcd.unreadable[key] = !u.etcd.unreadable[key] }},
	{"unwritable", func(u *told, key string) { u.etcd.unwritable[key] = !u.etcd.unwritable[key] }},
	{"poison", func(u *told, _ string) { u.etcd.poisoned[u.core.lease] = true }},
	{"delete", func(u *told, key string) { u.etcd.remove(key) }},
	{"overwrite", func(u *told, key string) {
		if kv := u.etcd.get(key); kv != nil {
			u.etcd.put(key, "other", kv.lease)
		}
	}},
	{"revoke", func(u *told, _ string) { u.etcd.revoke(u.core.lease) }},
	{"backup", func(u *told, _ string) { u.past = append(u.past, u.etcd.clone()) }},
	{"restore", func(u *told, _ string) {
		if len(u.past) > 0 && u.rand.IntN(3) == 0 {
			u.etcd.restore(u.now, u.past[u.rand.IntN(len(u.past))])
		}
	}},
	{"theirs", func(u *told, key string) {
		if !strings.Contains(key, "/") { // nobody else has a key of our lease's
			u.etcd.put(key, "theirs", theirs)
		}
	}},
	{"leave", func(u *told, key string) {
		if kv := u.etcd.get(key); kv != nil && kv.lease == theirs {
			u.etcd.remove(key)
		}
	}},
	{"reconnect", func(u *told, _ string) { u.core.reconnected(u.now) }},
	{"nudge", func(u *told, _ string) { u.core.nudge(u.now) }},
	{"ended", func(u *told, _ string) {
		if u.core.lease != 0 {
			u.core.keepAliveEnded(u.now, u.core.lease, errors.New("ended"))
		}
	}},
}

// disturb does one thing to the session or its etcd, which is not one of those left out, or acts.
func (u *told) disturb(without ...string) {
	i := u.rand.IntN(len(u.entries))
	items := u.items(i, "")
	key := items[u.rand.IntN(len(items))].Key(u.core.lease)
	n := u.rand.IntN(len(disturbances) + 3)
	if n >= len(disturbances) || slices.Contains(without, disturbances[n].name) {
		u.act()
		return
	}
	u.note("%s %s", disturbances[n].name, key)
	disturbances[n].do(u, key)
}

// theirs is the lease of another process, which does not end.
const theirs = 99
