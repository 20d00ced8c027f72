package etcd

import "time"

// etcd's timings, as it comes.
const (
	electionTimeout = time.Second
	electionTime    = electionTimeout + 200*time.Millisecond // from the loss of a leader to the next
	requestTimeout  = 5*time.Second + 2*electionTimeout
	leaderlessLimit = 3 * electionTimeout // a stream that wants a leader lives on without one
	resyncPeriod    = 100 * time.Millisecond
)

// member is one member of the cluster: what it sees of the others, and how much of what is committed it has applied.
type member struct {
	running  bool
	isolated bool
	lag      time.Duration
	lost     time.Time // since when it does not reach the leader; zero while it does
	ended    bool      // its streams that want a leader were ended
	joined   time.Time // since when it hears of what is committed
	elected  time.Time // when it got to know of its leader
	term     uint64    // in which that was
	applied  mark
	pending  []mark // committed and not applied here yet
}

// mark is a point in what is committed.
type mark struct {
	at             time.Time
	index          int64 // counts what is committed
	rev, compacted int64
}

// members decides who leads, who reaches whom and who has applied what.
type members struct {
	all    []*member
	leader int // -1 for none
	term   uint64
	elect  time.Time // when a leader is elected; zero for never
	last   mark      // committed last
}

func newMembers(n int, now time.Time, rev, compacted int64) members {
	m := members{term: 2, last: mark{at: now, rev: rev, compacted: compacted}}
	for range n {
		m.all = append(m.all, &member{running: true, applied: m.last})
	}
	return m
}

// reached reports whether the other members reach member i.
func (m *members) reached(i int) bool { return m.all[i].running && !m.all[i].isolated }

// quorum reports whether the members that reach each other can commit.
func (m *members) quorum() bool {
	n := 0
	for i := range m.all {
		if m.reached(i) {
			n++
		}
	}
	return n > len(m.all)/2
}

// commits reports whether what is proposed through member i is committed.
func (m *members) commits(i int) bool {
	return m.leader >= 0 && m.reached(m.leader) && m.quorum() && m.reached(i)
}

// working reports whether anything is committed.
func (m *members) working() bool { return m.leader >= 0 && m.commits(m.leader) }

// leads reports whether member i takes itself for the leader.
func (m *members) leads(i int, now time.Time) bool { return m.leader == i && m.seesLeader(i, now) }

// seesLeader reports whether member i takes anybody for the leader, or itself.
func (m *members) seesLeader(i int, now time.Time) bool {
	lost := m.all[i].lost
	return m.all[i].running && (lost.IsZero() || now.Before(lost.Add(electionTimeout)))
}

// settle works out, after a change or as time passes, who reaches the leader and when another is elected. It reports whether
// the leader gave up, which stops the clock of the leases.
func (m *members) settle(now time.Time) (demoted bool) {
	if m.leader >= 0 && !m.seesLeader(m.leader, now) {
		m.leader = -1
		demoted = true
	}
	for i, one := range m.all {
		switch {
		case m.commits(i):
			if !one.lost.IsZero() || one.joined.IsZero() {
				one.joined = now
			}
			if one.term != m.term || !m.seesLeader(i, now) {
				one.elected, one.term = now, m.term
			}
			one.lost, one.ended = time.Time{}, false
		case one.lost.IsZero():
			one.lost = now
		}
	}
	switch {
	case m.working() || !m.quorum():
		m.elect = time.Time{}
	case m.elect.IsZero():
		m.elect = now.Add(electionTime)
		if len(m.all) == 1 {
			m.elect = now
		}
	}
	return demoted
}

// lead makes member i the leader and reports whether it could be.
func (m *members) lead(i int, now time.Time) bool {
	if !m.reached(i) || !m.quorum() {
		return false
	}
	m.leader, m.elect = i, time.Time{}
	m.term++
	m.all[i].lost = time.Time{}
	m.settle(now)
	return true
}

// electDue elects a leader when it is time, and reports whether it did.
func (m *members) electDue(now time.Time) bool {
	if m.elect.IsZero() || now.Before(m.elect) {
		return false
	}
	for i := range m.all {
		if m.lead(i, now) {
			return true
		}
	}
	return false
}

// commit records that something was committed.
func (m *members) commit(now time.Time, rev, compacted int64) {
	m.last = mark{now, m.last.index + 1, rev, compacted}
	for _, one := range m.all {
		one.pending = append(one.pending, m.last)
	}
}

// proposal is what a member wants to be committed.
type proposal struct {
	member int
	began  time.Time
	fate   fate
}

type fate int

const (
	held fate = iota // by a member that knows of no leader: it waits for one
	kept             // by the leader, which waits for a quorum
	lost             // on the way to a leader that is gone
)

// propose begins a proposal through member i.
func (m *members) propose(i int, now time.Time) *proposal {
	p := &proposal{member: i, began: now}
	switch {
	case m.commits(i) || !m.seesLeader(i, now):
	case m.leads(i, now):
		p.fate = kept
	default:
		p.fate = lost
	}
	return p
}

// accepts reports whether p is committed now. What a leader keeps is lost once another leads.
func (m *members) accepts(p *proposal) bool {
	if p.fate == kept && m.leader >= 0 && m.leader != p.member {
		p.fate = lost
	}
	return p.fate != lost && m.commits(p.member)
}

// late returns the error for a proposal that has timed out.
func (m *members) late(p *proposal) error {
	elected := m.all[p.member].elected
	switch {
	case p.fate == held:
		return errExpired // it was not even proposed
	case p.began.Before(elected) && p.began.After(elected.Add(-2*electionTimeout)):
		return errLeaderFailed
	}
	return errTimeout
}

// due returns when member i applies its first pending mark; zero if it cannot as things are.
func (m *members) due(i int) time.Time {
	one := m.all[i]
	if len(one.pending) == 0 || !m.reached(i) || !m.working() {
		return time.Time{}
	}
	at := one.pending[0].at
	if at.Before(one.joined) {
		at = one.joined
	}
	return at.Add(one.lag)
}

// apply returns the next mark that member i applies at now.
func (m *members) apply(i int, now time.Time) (mark, bool) {
	due := m.due(i)
	if due.IsZero() || now.Before(due) {
		return mark{}, false
	}
	one := m.all[i]
	one.applied = one.pending[0]
	if len(one.pending) == 1 {
		one.pending = one.pending[:0] // its room is used again
	} else {
		one.pending = one.pending[1:]
	}
	return one.applied, true
}

// jump moves all members to a new mark, after a restore.
func (m *members) jump(now time.Time, rev, compacted int64) {
	m.last = mark{now, m.last.index + 1, rev, compacted}
	for _, one := range m.all {
		one.applied, one.pending = m.last, nil
	}
}

// oldest returns the compaction that all members have applied.
func (m *members) oldest() int64 {
	oldest := m.last.compacted
	for _, one := range m.all {
		oldest = min(oldest, one.applied.compacted)
	}
	return oldest
}

// endDue reports whether the streams of member i that want a leader are to end, once.
func (m *members) endDue(i int, now time.Time) bool {
	one := m.all[i]
	at := m.endAt(i)
	if at.IsZero() || now.Before(at) {
		return false
	}
	one.ended = true
	return true
}

func (m *members) endAt(i int) time.Time {
	one := m.all[i]
	if !one.running || one.lost.IsZero() || one.ended {
		return time.Time{}
	}
	return one.lost.Add(electionTimeout + leaderlessLimit)
}

// next returns when something is to be done; zero for never.
func (m *members) next() time.Time {
	next := m.elect
	if m.leader >= 0 && !m.all[m.leader].lost.IsZero() {
		next = sooner(next, m.all[m.leader].lost.Add(electionTimeout))
	}
	for i := range m.all {
		next = sooner(sooner(next, m.due(i)), m.endAt(i))
	}
	return next
}

// sooner returns the earlier of two instants, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
