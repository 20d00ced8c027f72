package election

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

var errLost = errors.New("no answer")

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const ttl = 4 // s

// record holds the state of an attempt to stand in etcd, and of messages on their way there.
type record struct {
	asked   bool // the request for a lease is on its way
	leased  bool
	expires int  // when etcd may end the lease
	put     bool // a put is on its way
	created int64
}

// renewal is a renewal under way.
type renewal struct {
	sent     int // 0: there is none
	answered bool
	gone     bool
}

// process is an instance that stands for election.
type process struct {
	core    core
	now     record // of the candidate number
	before  record // of the one before
	sent    int    // when the attempt began
	told    View   // by etcd, and not heard yet
	renewal renewal
	revoke  int // 0: none is under way; 1: one is on its way; 2: it is answered
	drained bool
	removed bool // its candidate was deleted by hand
}

// world is etcd and two instances.
type world struct {
	now       int // s
	revision  int64
	failed    int
	most      int // failures
	processes [2]process
	led       int64 // the greatest token of a leader
	late      string
}

func (w *world) time() time.Time { return begin.Add(time.Duration(w.now) * time.Second) }

func at(second int) time.Time { return begin.Add(time.Duration(second) * time.Second) }

func (w *world) key(i int) string { return fmt.Sprint(i, " ", w.processes[i].core.number) }

// fail counts a failure, and reports whether there may be one more.
func (w *world) fail() bool {
	w.failed++
	return w.failed <= w.most
}

// view returns what etcd tells an instance now.
func (w *world) view(i int) View {
	v := View{Known: true}
	for j := range w.processes {
		p := &w.processes[j]
		for n, r := range []record{p.before, p.now} {
			one := First{Key: fmt.Sprint(j, " ", p.core.number+uint64(n)-1), Created: r.created}
			if one.Created != 0 && one.Precedes(v.First) {
				v.First = one
			}
			v.Yields = v.Yields || w.processes[i].drained && j != i && !p.drained && r.created != 0
		}
	}
	return v
}

// do carries the effects of an event out.
func (w *world) do(i int, e effects) {
	p := &w.processes[i]
	if e.stand {
		p.before, p.now = p.now, record{asked: true}
		p.sent, p.renewal, p.removed, p.revoke = w.now, renewal{}, false, 0
	}
	if e.renew != clientv3.NoLease {
		p.renewal = renewal{sent: w.now}
	}
	if e.revoke != clientv3.NoLease {
		p.revoke = 1
	}
}

// stood tells an instance what became of its attempt.
func (w *world) stood(i int, err error) {
	p := &w.processes[i]
	o := outcome{err: err, sent: at(p.sent), life: ttl * time.Second}
	if !p.now.asked {
		o.lease = clientv3.LeaseID(p.core.number)
	}
	if err == nil {
		o.own = First{Key: w.key(i), Created: p.now.created}
	}
	w.do(i, p.core.stood(w.time(), p.core.number, o))
}

func (w *world) renewed(i int, o outcome) {
	p := &w.processes[i]
	p.renewal = renewal{}
	w.do(i, p.core.renewed(w.time(), p.core.number, o))
}

// happening is an event of an instance.
type happening struct {
	name string
	do   func(w *world, i int, p *process) bool
}

// goesOn is what happens where nothing fails.
var goesOn = []happening{
	{"its entry is in etcd", func(w *world, i int, p *process) bool {
		if p.core.wanted {
			return false
		}
		w.do(i, p.core.want(w.time(), true))
		return true
	}},
	{"etcd grants its lease", func(w *world, _ int, p *process) bool {
		if !p.now.asked {
			return false
		}
		p.now.asked, p.now.leased, p.now.expires, p.now.put = false, true, w.now+ttl, true
		return true
	}},
	{"etcd puts its candidate", func(w *world, _ int, p *process) bool {
		if !p.now.put {
			return false
		}
		if p.now.put = false; p.now.leased {
			w.revision++
			p.now.created = w.revision
		}
		return true
	}},
	{"hears that it stands", func(w *world, i int, p *process) bool {
		if p.core.phase != standing || p.now.created == 0 {
			return false
		}
		w.stood(i, nil)
		return true
	}},
	{"hears that it does not", func(w *world, i int, p *process) bool {
		if p.core.phase != standing || p.now.asked || p.now.put || p.now.created != 0 {
			return false
		}
		w.stood(i, errLost)
		return true
	}},
	{"etcd renews its lease", func(w *world, _ int, p *process) bool {
		if p.renewal.sent == 0 || p.renewal.answered {
			return false
		}
		p.renewal.answered, p.renewal.gone = true, !p.now.leased || p.now.created == 0
		if w.now < p.now.expires { // else another member of etcd has decided to end it, and this one does not know
			p.now.expires = w.now + ttl
		}
		return true
	}},
	{"hears of its renewal", func(w *world, i int, p *process) bool {
		if !p.renewal.answered {
			return false
		}
		w.renewed(i, outcome{sent: at(p.renewal.sent), life: ttl * time.Second, gone: p.renewal.gone})
		return true
	}},
	{"etcd revokes its lease", func(_ *world, _ int, p *process) bool {
		if p.revoke != 1 {
			return false
		}
		p.revoke, p.now.leased, p.now.created = 2, false, 0
		return true
	}},
	{"hears of the revocation", func(w *world, i int, p *process) bool {
		if p.revoke != 2 {
			return false
		}
		p.revoke = 0
		w.do(i, p.core.revoked(w.time(), p.core.number, true))
		return true
	}},
	{"etcd tells it of the candidates", func(w *world, i int, p *process) bool {
		if p.told == w.view(i) {
			return false
		}
		p.told = w.view(i)
		return true
	}},
	{"hears of the candidates", func(w *world, i int, p *process) bool {
		if p.core.view == p.told {
			return false
		}
		w.do(i, p.core.hear(w.time(), p.told))
		return true
	}},
	{"looks at the clock", func(w *world, i int, p *process) bool {
		before := w.stateKey()
		w.do(i, p.core.tick(w.time()))
		return w.stateKey() != before
	}},
	{"etcd ends its lease", func(w *world, _ int, p *process) bool { return p.before.expire(w.now) || p.now.expire(w.now) }},
}

// expire ends a lease whose time has come.
func (r *record) expire(now int) bool {
	if !r.leased || now < r.expires {
		return false
	}
	r.leased, r.created = false, 0
	return true
}

// goesWrong is what counts as a failure.
var goesWrong = []happening{
	{"gets no answer", func(w *world, i int, p *process) bool {
		if p.core.phase != standing || !w.fail() {
			return false
		}
		w.stood(i, errLost)
		return true
	}},
	{"gets no answer to its renewal", func(w *world, i int, p *process) bool {
		if p.renewal.sent == 0 || !w.fail() {
			return false
		}
		w.renewed(i, outcome{err: errLost})
		return true
	}},
	{"gets no answer to its revocation", func(w *world, i int, p *process) bool {
		if p.revoke == 0 || !w.fail() {
			return false
		}
		p.revoke = 0
		w.do(i, p.core.revoked(w.time(), p.core.number, false))
		return true
	}},
	{"has its candidate deleted by hand", func(w *world, _ int, p *process) bool {
		if p.now.created == 0 || !w.fail() {
			return false
		}
		p.now.created, p.removed = 0, true
		return true
	}},
	{"is paused", func(w *world, i int, p *process) bool {
		if !p.core.wanted || !w.fail() {
			return false
		}
		w.do(i, p.core.want(w.time(), false))
		return true
	}},
	{"is asked to resign", func(w *world, i int, p *process) bool {
		token := p.core.term(w.time()).Token
		if token == 0 || !w.fail() {
			return false
		}
		w.do(i, p.core.resign(w.time(), token))
		return true
	}},
	{"is drained", func(w *world, _ int, p *process) bool {
		if p.drained || !w.fail() {
			return false
		}
		p.drained = true
		return true
	}},
	{"is refused the candidates", func(w *world, i int, p *process) bool {
		if p.core.view.Blind || !w.fail() {
			return false
		}
		blind := p.core.view
		blind.Blind = true
		w.do(i, p.core.hear(w.time(), blind))
		return true
	}},
}

// stateKey returns one key for all states with the same future: of revisions only the order counts, of times the distance.
func (w *world) stateKey() string {
	revisions := []int64{0, w.led}
	for i := range w.processes {
		p := &w.processes[i]
		revisions = append(revisions, p.now.created, p.before.created, p.core.own.Created, p.core.view.First.Created, p.told.First.Created)
	}
	slices.Sort(revisions)
	revisions = slices.Compact(revisions)
	rank := func(revision int64) int { n, _ := slices.BinarySearch(revisions, revision); return n }
	away := func(second int) int { return max(second-w.now, -ttl-1) }
	until := func(t time.Time) int {
		return max(int(t.Sub(w.time()).Round(100*time.Millisecond)/(100*time.Millisecond)), -1)
	}
	var b strings.Builder
	fmt.Fprint(&b, min(w.failed, w.most), rank(w.led), w.late)
	for i := range w.processes {
		p := &w.processes[i]
		c := &p.core
		for _, r := range []record{p.now, p.before} {
			fmt.Fprint(&b, "|", r.asked, r.put && r.leased, rank(r.created))
			if r.leased {
				fmt.Fprint(&b, max(away(r.expires), 0))
			}
		}
		fmt.Fprint(&b, ";", c.wanted, c.phase, c.blind, c.yielded, p.drained, p.removed, p.revoke, rank(c.own.Created))
		for _, v := range []View{c.view, p.told} {
			fmt.Fprint(&b, v.Known, v.Blind, v.Yields, rank(v.First.Created))
		}
		switch c.phase {
		case absent:
			fmt.Fprint(&b, ",r", until(c.retryAt))
		case standing:
			fmt.Fprint(&b, ",s", away(p.sent))
		case placed:
			fmt.Fprint(&b, ",u", until(c.until), ",", until(c.callAt))
		case leaving:
			fmt.Fprint(&b, ",c", until(c.callAt), c.calling)
		}
		if p.renewal.sent != 0 && c.phase == placed {
			fmt.Fprint(&b, ",w", away(p.renewal.sent), p.renewal.answered, p.renewal.gone)
		}
	}
	return b.String()
}

// begun notes who has begun to lead.
func (w *world) begun(before *world) {
	for i := range w.processes {
		p := &w.processes[i]
		token := p.core.term(w.time()).Token
		if token == 0 || token == before.processes[i].core.term(before.time()).Token || token == w.led {
			continue
		}
		if token < w.led {
			w.late = fmt.Sprintf("%d begins to lead with %d, after one with %d", i, token, w.led)
		}
		w.led = max(w.led, token)
	}
}

// TestWalk walks all orders of events of two instances and etcd with two failures, and then random longer ones with ten. Messages may
// take any time, instances may handle them late, and etcd may end leases late.
func TestWalk(t *testing.T) {
	events := func(of []happening) (all []coretest.Event[world]) {
		for i := range len(world{}.processes) {
			for _, h := range of {
				all = append(all, coretest.Event[world]{Name: fmt.Sprint(i, " ", h.name), Do: func(w *world) bool {
					before := *w
					if !h.do(w, i, &w.processes[i]) {
						return false
					}
					w.begun(&before)
					return true
				}})
			}
		}
		return all
	}
	second := func(w *world) bool { w.now++; return true }
	walked := coretest.World[world]{
		Start: func() *world {
			w := &world{now: 1, most: 2}
			for i := range w.processes {
				p := &w.processes[i]
				p.told = View{Known: true}
				p.core.hear(w.time(), p.told)
				w.do(i, p.core.want(w.time(), true))
			}
			return w
		},
		Copy:   func(w *world) *world { c := *w; return &c },
		Key:    (*world).stateKey,
		Events: slices.Concat(events(goesOn), events(goesWrong), []coretest.Event[world]{{Name: "a second passes", Do: second}}),
		Rules: []coretest.Rule[world]{
			{Name: "two never lead at a time, unless a candidate is deleted by hand", Broken: func(_, w *world) string {
				var lead []string
				for i := range w.processes {
					p := &w.processes[i]
					if term := p.core.term(w.time()); term != (Term{}) && !p.removed {
						lead = append(lead, fmt.Sprintf("%d with %+v", i, term))
					}
				}
				if len(lead) > 1 {
					return strings.Join(lead, ", ")
				}
				return ""
			}},
			{Name: "the candidate of a leader is in etcd, unless it is deleted by hand", Broken: func(_, w *world) string {
				for i := range w.processes {
					p := &w.processes[i]
					if term := p.core.term(w.time()); term.Token != 0 && term.Token != p.now.created && !p.removed {
						return fmt.Sprintf("%d leads with %+v, and etcd has %d", i, term, p.now.created)
					}
				}
				return ""
			}},
			{Name: "a lease that is given up is revoked", Broken: func(_, w *world) string {
				for i := range w.processes {
					p := &w.processes[i]
					if c := &p.core; c.phase == absent && p.now.leased && c.lease == clientv3.LeaseID(c.number) {
						return fmt.Sprintf("%d has left a lease", i)
					}
				}
				return ""
			}},
			{Name: "who begins to lead has the greatest token", Broken: func(_, w *world) string { return w.late }},
		},
		Settle: func(w *world) string {
			leads, stand := 0, true
			for i := range w.processes {
				for _, h := range goesOn {
					if h.do(w, i, &w.processes[i]) {
						return fmt.Sprint(i, " ", h.name)
					}
				}
				p := &w.processes[i]
				led := p.core.term(w.time()) != (Term{})
				if led {
					leads++
				}
				stand = stand && (p.drained || p.now.created != 0 && p.core.phase == placed) && !(led && p.drained && !w.processes[1-i].drained)
			}
			if leads == 1 && stand {
				return ""
			}
			second(w)
			return "a second passes"
		},
		Within: 200,
	}
	coretest.Walk(t, 7, walked)

	start := walked.Start
	walked.Start = func() *world {
		w := start()
		w.most = 10
		return w
	}
	for range 3 { // so that more goes on than goes wrong
		walked.Events = slices.Concat(walked.Events, events(goesOn), walked.Events[len(walked.Events)-1:])
	}
	coretest.Live(t, 4000, 1000, walked)
}
