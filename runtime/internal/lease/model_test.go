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
	// fail decides about the fate of a write: 0 answered, 1 lost, 2 done but not answered, 3 done late. A revocation
	// is answered, or done but not answered.
	fail func() int
	// during is called while a call is under way: before and after what etcd does.
	during func()
}

func newLife(t testing.TB, seed uint64) *life {
	now := time.Unix(1e9, 0)
	l := &life{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: now, start: now, etcd: newModel(), fail: func() int { return 0 }, during: func() {},
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
		l.note("late: %s: %v %v", steps(w.steps), res, err)
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

func (l *life) call(o op) {
	if l.etcd.down {
		l.timeout(o)
		return
	}
	switch o := o.(type) {
	case grantOp:
		if l.etcd.full {
			l.core.grantFailed(l.now, rpctypes.ErrNoSpace)
			return
		}
		l.etcd.ids++
		l.etcd.leases[l.etcd.ids] = l.now.Add(ttl)
		l.during()
		l.note("granted %d for %v", l.etcd.ids, l.core.replace)
		l.core.granted(l.now, l.now, l.etcd.ids, ttl)
		l.renewAt = l.now
	case revokeOp:
		if l.etcd.poisoned[o.lease] {
			l.core.revokeFailed(l.now, o.lease, rpctypes.ErrPermissionDenied)
			return
		}
		_, ok := l.etcd.leases[o.lease]
		l.note("revoke %d: %v", o.lease, ok)
		if !ok {
			l.during()
			l.core.revokeFailed(l.now, o.lease, rpctypes.ErrLeaseNotFound)
			return
		}
		l.etcd.revoke(o.lease)
		if l.fail() == 2 {
			l.timeout(o)
			return
		}
		rev := l.etcd.rev
		l.during()
		l.core.revoked(l.now, o.lease, rev)
	case probeOp:
		kvs, err := l.etcd.read(o.probes)
		rev := l.etcd.rev
		l.during()
		if err != nil {
			l.core.probeFailed(l.now, o.probes, err)
			return
		}
		l.core.probed(l.now, o.probes, kvs, rev)
	case writeOp:
		l.write(o)
	}
}

func (l *life) write(o writeOp) {
	switch l.fail() {
	case 1:
		l.note("lost: %s", steps(o.steps))
		l.timeout(o)
	case 2:
		res, _, err := l.etcd.write(o.steps)
		l.note("unanswered: %s: %v %v", steps(o.steps), res, err)
		l.timeout(o)
	case 3:
		l.note("to be late: %s", steps(o.steps))
		l.lates = append(l.lates, late{l.now.Add(timeoutOf(o) + time.Duration(l.rand.Int64N(int64(5*time.Second)))), slices.Clone(o.steps)})
		l.timeout(o)
	default:
		made, kvs, err := l.etcd.write(o.steps)
		rev := l.etcd.rev
		l.note("%s: %v %v", steps(o.steps), made, err)
		l.during()
		if err != nil {
			l.core.writeFailed(l.now, o.steps, err)
			return
		}
		l.core.wrote(l.now, o.steps, made, kvs, rev)
	}
}

// timeout is the end of a call that is not answered.
func (l *life) timeout(o op) {
	err := context.DeadlineExceeded
	l.now = l.now.Add(timeoutOf(o))
	l.during()
	switch o := o.(type) {
	case grantOp:
		l.core.grantFailed(l.now, err)
	case revokeOp:
		l.core.revokeFailed(l.now, o.lease, err)
	case probeOp:
		l.core.probeFailed(l.now, o.probes, err)
	case writeOp:
		l.core.writeFailed(l.now, o.steps, err)
	}
}

func steps(steps []step) string {
	var all []string
	for _, st := range steps {
		kind := kinds[st.kind]
		all = append(all, fmt.Sprintf("%s %s=%s rev %d lease %d", kind, st.s.key, st.value, st.rev, st.lease))
	}
	return strings.Join(all, ", ")
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

// newTold returns a user of n entries of one key each.
func newTold(t testing.TB, seed uint64, n int) *told {
	return &told{life: newLife(t, seed), entries: make([]*entry, n), items: func(i int, value string) []Item {
		return item(fmt.Sprint("k", i), value)
	}}
}

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

// Writes are lost, done without an answer, or done late: whatever was said last is what etcd has, within
// 3 s of the last write's arrival.
func TestG17_LateWrites(t *testing.T) {
	for seed := range uint64(*worlds) {
		u := newTold(t, seed, 3)
		u.fail = func() int {
			if u.rand.IntN(3) > 0 {
				return 0
			}
			return 1 + u.rand.IntN(3)
		}
		for range 20 {
			u.act()
			u.run(time.Duration(u.rand.Int64N(int64(2 * time.Second))))
		}
		u.fail = func() int { return 0 }
		for len(u.lates) > 0 {
			u.run(50 * time.Millisecond)
		}
		u.converge(seed, 3*time.Second)
	}
}

// Etcd goes back to an earlier state, at any moment, and however long ago that was.
func TestG16_Restored(t *testing.T) {
	for seed := range uint64(*worlds) {
		u := newTold(t, seed, 4)
		for range 30 {
			u.act()
			u.run(time.Duration(u.rand.Int64N(int64(time.Second))))
			if u.rand.IntN(4) == 0 {
				u.note("backup")
				u.past = append(u.past, u.etcd.clone())
			}
		}
		if len(u.past) == 0 {
			continue
		}
		u.etcd.down = true
		u.run(time.Duration(u.rand.Int64N(int64(ttl))))
		u.note("restore")
		u.etcd.restore(u.now, u.past[u.rand.IntN(len(u.past))])
		if u.rand.IntN(2) == 0 {
			u.etcd.rev += 1000 // others have written since
		}
		u.etcd.down = false
		u.run(time.Second) // the call that was under way
		u.core.reconnected(u.now)
		u.converge(seed, 3*time.Second)
	}
}

// All faults at once, and then none: etcd is as wanted once refused keys have been tried again.
func TestEverything(t *testing.T) {
	seen := make(map[string]bool)
	resumedIntoConflict(t, seen)
	for seed := range 3 * uint64(*worlds) { // the rarest change of state is in one life of 200
		u := newTold(t, seed, 6)
		u.seen = seen
		u.fail = func() int {
			if u.rand.IntN(6) > 0 {
				return 0
			}
			return 1 + u.rand.IntN(3)
		}
		for range 60 {
			u.disturb()
			u.run(time.Duration(u.rand.Int64N(int64(2 * time.Second))))
		}
		u.heal()
		u.converge(seed, 100*time.Second)
		u.peace(seed)
	}
	checkDiagrams(t, seen)
}

// heal ends all that is wrong with etcd.
func (u *told) heal() {
	u.fail, u.during = func() int { return 0 }, func() {}
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

// resumedIntoConflict lives a life that is rare: a pause finds that another process has taken the key.
func resumedIntoConflict(t *testing.T, seen map[string]bool) {
	s := newScript(t)
	s.seen = seen
	s.have("a", "b")
	s.etcd.put("a", "x", theirs)
	s.want("a", paused)
	s.settle()
	s.want("a", present)
	s.settle()
	s.state("a", Conflict)
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
