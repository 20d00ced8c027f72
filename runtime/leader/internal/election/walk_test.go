package election

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
)

var errLost = errors.New("no answer")

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	ttl   = 4 * time.Second
	grace = 2 * time.Second
)

// record is an attempt to stand: its state in etcd, and its messages on their
// way to etcd.
type record struct {
	asked   bool // the request for a lease is on its way
	leased  bool
	expires time.Time // when etcd may end the lease
	put     bool      // a put is on its way
	created int64
}

// renewal is a renewal that is under way.
type renewal struct {
	sent     time.Time // zero without a renewal
	answered bool
	gone     bool
}

// process is an instance that stands for election.
type process struct {
	core    core
	now     record    // of the current candidate
	before  record    // of the previous candidate
	sent    time.Time // when the attempt began
	pending View      // the last view that etcd has sent, perhaps not handled yet
	renewal renewal
	revoke  int // 0 for none, 1 for one on its way to etcd, 2 for one that etcd has executed

	// the number of the candidate that has admitted the call under way, 0
	// without a call
	call uint64

	drained bool
	removed bool // its candidate was deleted by hand
}

// world is the state of etcd and of two instances.
type world struct {
	now       time.Time
	revision  int64
	processes [2]process
	led       int64  // the highest token of a leader
	late      string // how a term with a lower token began; "" if none did

	// the event that ended a term before its call and the grace had ended,
	// although nothing was lost; "" if none did
	cut string
}

func (w *world) key(i int) string {
	return fmt.Sprint(i, " ", w.processes[i].core.number)
}

// view returns the state that etcd sends to an instance now.
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

// do applies the effects of an event.
func (w *world) do(i int, e effects) {
	p := &w.processes[i]
	if e.stand > 0 {
		p.before = p.now
		p.now = record{asked: true}
		p.sent = w.now
		p.renewal = renewal{}
		p.removed = false
		p.revoke = 0
	}

	if e.renew != clientv3.NoLease {
		p.renewal = renewal{sent: w.now}
	}

	if e.revoke != clientv3.NoLease {
		p.revoke = 1
	}
}

// stood passes the outcome of an attempt to its instance.
func (w *world) stood(i int, err error) {
	p := &w.processes[i]
	o := outcome{err: err, sent: p.sent, life: ttl}
	if !p.now.asked {
		o.lease = clientv3.LeaseID(p.core.number)
	}

	if err == nil {
		o.own = First{Key: w.key(i), Created: p.now.created}
	}

	w.do(i, p.core.stood(w.now, p.core.number, o))
}

func (w *world) renewed(i int, o outcome) {
	p := &w.processes[i]
	p.renewal = renewal{}
	w.do(i, p.core.renewed(w.now, p.core.number, o))
}

// happening is an event of an instance.
type happening struct {
	name string
	can  func(w *world, i int, p *process) bool // whether the event is possible
	do   func(w *world, i int, p *process)
}

// happens makes an event happen, and returns false if it is impossible or
// changes nothing.
func (w *world) happens(h happening, i int) bool {
	before := *w

	p := &w.processes[i]
	if !h.can(w, i, p) {
		return false
	}

	h.do(w, i, p)

	return *w != before
}

func always(*world, int, *process) bool {
	return true
}

// goesOn are the events without failures.
var goesOn = []happening{
	{
		"its entry is in etcd", func(_ *world, _ int, p *process) bool { return !p.core.wanted },
		func(w *world, i int, p *process) { w.do(i, p.core.want(w.now, true)) },
	},
	{"etcd grants its lease", func(_ *world, _ int, p *process) bool {
		return p.now.asked
	}, func(w *world, _ int, p *process) {
		p.now.asked = false
		p.now.leased = true
		p.now.expires = w.now.Add(ttl)
		p.now.put = true
	}},
	{"etcd puts its candidate", func(_ *world, _ int, p *process) bool {
		return p.now.put
	}, func(w *world, _ int, p *process) {
		p.now.put = false

		if p.now.leased {
			w.revision++
			p.now.created = w.revision
		}
	}},
	{
		"hears that it stands", func(_ *world, _ int, p *process) bool {
			return p.core.phase == entering && p.now.created != 0
		},
		func(w *world, i int, _ *process) { w.stood(i, nil) },
	},
	{"hears that it does not stand", func(_ *world, _ int, p *process) bool {
		return p.core.phase == entering && !p.now.asked && !p.now.put && p.now.created == 0
	}, func(w *world, i int, _ *process) { w.stood(i, errLost) }},
	// an expired one only if its next leader extends it
	{"etcd renews its lease", func(w *world, _ int, p *process) bool {
		return !p.renewal.sent.IsZero() &&
			!p.renewal.answered &&
			(!p.now.leased || w.now.Before(p.now.expires))
	}, func(w *world, _ int, p *process) {
		p.renewal.answered = true
		p.renewal.gone = !p.now.leased || p.now.created == 0
		p.now.expires = w.now.Add(ttl)
	}},
	{"hears of the renewal", func(_ *world, _ int, p *process) bool {
		return p.renewal.answered
	}, func(w *world, i int, p *process) {
		w.renewed(i, outcome{sent: p.renewal.sent, life: ttl, gone: p.renewal.gone})
	}},
	{"etcd revokes its lease", func(_ *world, _ int, p *process) bool {
		return p.revoke == 1
	}, func(_ *world, _ int, p *process) {
		p.revoke = 2
		p.now.leased = false
		p.now.created = 0
	}},
	{"hears of the revocation", func(_ *world, _ int, p *process) bool {
		return p.revoke == 2
	}, func(w *world, i int, p *process) {
		p.revoke = 0
		w.do(i, p.core.revoked(w.now, p.core.number, true))
	}},
	{"its call ends", func(_ *world, _ int, p *process) bool {
		return p.call != 0
	}, func(w *world, i int, p *process) {
		number := p.call
		p.call = 0
		w.do(i, p.core.exit(w.now, number))
	}},
	{"etcd sends it the candidates", always, func(w *world, i int, p *process) {
		p.pending = w.view(i)
	}},
	{
		"hears of the candidates", func(_ *world, _ int, p *process) bool {
			return p.core.view != p.pending
		},
		func(w *world, i int, p *process) { w.do(i, p.core.hear(w.now, p.pending)) },
	},
	{"its timer fires", always, func(w *world, i int, p *process) { w.do(i, p.core.tick(w.now)) }},
	{"etcd ends its lease", always, func(w *world, _ int, p *process) {
		_ = p.before.expire(w.now) || p.now.expire(w.now)
	}},
}

// expire ends an expired lease.
func (r *record) expire(now time.Time) bool {
	if !r.leased || now.Before(r.expires) {
		return false
	}

	r.leased = false
	r.created = 0

	return true
}

// goesWrong are the failures.
var goesWrong = []happening{
	{
		"gets no answer", func(_ *world, _ int, p *process) bool {
			return p.core.phase == entering
		},
		func(w *world, i int, _ *process) { w.stood(i, errLost) },
	},
	{
		"has its expired lease extended by the next leader of etcd",
		func(w *world, _ int, p *process) bool {
			return p.now.leased && !w.now.Before(p.now.expires)
		},
		func(w *world, _ int, p *process) { p.now.expires = w.now.Add(ttl) },
	},
	{
		"gets no answer to its renewal", func(_ *world, _ int, p *process) bool {
			return !p.renewal.sent.IsZero()
		},
		func(w *world, i int, _ *process) { w.renewed(i, outcome{err: errLost}) },
	},
	{"gets no answer to its revocation", func(_ *world, _ int, p *process) bool {
		return p.revoke != 0
	}, func(w *world, i int, p *process) {
		p.revoke = 0
		w.do(i, p.core.revoked(w.now, p.core.number, false))
	}},
	{
		"has its candidate deleted by hand", func(_ *world, _ int, p *process) bool {
			return p.now.created != 0
		},
		func(_ *world, _ int, p *process) {
			p.now.created = 0
			p.removed = true
		},
	},
	{
		"is paused", func(_ *world, _ int, p *process) bool { return p.core.wanted },
		func(w *world, i int, p *process) { w.do(i, p.core.want(w.now, false)) },
	},
	{
		"is asked to resign", func(w *world, _ int, p *process) bool {
			return p.core.term(w.now).Token != 0
		},
		func(w *world, i int, p *process) {
			w.do(i, p.core.resign(w.now, p.core.term(w.now).Token, grace))
		},
	},
	{"gets a call", func(_ *world, _ int, p *process) bool {
		return p.call == 0
	}, func(w *world, _ int, p *process) {
		token := p.core.term(w.now).Token
		if token != 0 && p.core.enter(w.now, token, true) {
			p.call = p.core.number
		}
	}},
	{"is drained, or no longer", always, func(_ *world, _ int, p *process) {
		p.drained = !p.drained
	}},
	{"is refused the candidates", func(_ *world, _ int, p *process) bool {
		return !p.core.view.Blind
	}, func(w *world, i int, p *process) {
		blind := p.core.view
		blind.Blind = true
		w.do(i, p.core.hear(w.now, blind))
	}},
}

// begun records the tokens of the terms that have begun since before.
func (w *world) begun(before *world) {
	for i := range w.processes {
		p := &w.processes[i]
		token := p.core.term(w.now).Token
		if token == 0 ||
			token == before.processes[i].core.term(before.now).Token ||
			token == w.led {
			continue
		}

		if token < w.led && !p.removed {
			w.late = fmt.Sprintf(
				"instance %d begins to lead with token %d, after a term with token %d", i, token,
				w.led)
		}

		w.led = max(w.led, token)
	}
}

// TestWalk walks random orders of events of two instances and etcd. Messages,
// their handling and the ends of leases may be late.
func TestWalk(t *testing.T) {
	events := func(of []happening) (all []modelcheck.Event[world]) {
		for i := range len(world{}.processes) {
			for _, h := range of {
				all = append(all, modelcheck.Event[world]{
					Name: fmt.Sprint(i, " ", h.name),
					Do: func(w *world) bool {
						before := *w

						if !w.happens(h, i) {
							return false
						}

						w.begun(&before)
						c := &w.processes[i].core
						was := &before.processes[i]

						waits := w.processes[i].call == c.number &&
							w.now.Before(cmp.Or(was.core.endAt, w.now.Add(grace)))
						if was.core.term(w.now).Token != 0 &&
							c.phase == leaving &&
							c.view.First == c.own &&
							waits &&
							h.name != "hears of the renewal" {
							w.cut = h.name
						}

						return true
					}})
			}
		}

		return all
	}

	second := func(w *world) bool {
		w.now = w.now.Add(time.Second)
		return true
	}

	walked := modelcheck.World[world]{
		Start: func() *world {
			w := &world{now: begin}
			for i := range w.processes {
				p := &w.processes[i]
				p.pending = View{Known: true}
				p.core.grace = grace
				p.core.hear(w.now, p.pending)
				w.do(i, p.core.want(w.now, true))
			}

			return w
		},
		Events: slices.Concat(events(goesOn), events(goesWrong),
			[]modelcheck.Event[world]{{Name: "a second passes", Do: second}}),
		Rules: []modelcheck.Rule[world]{
			{
				Name: "two never lead at a time, unless a candidate is deleted by hand",
				Broken: func(w *world) string {
					var lead []string
					for i := range w.processes {
						p := &w.processes[i]
						if term := p.core.term(w.now); term != (Term{}) && !p.removed {
							lead = append(lead, fmt.Sprintf("%d with %+v", i, term))
						}
					}

					if len(lead) > 1 {
						return strings.Join(lead, ", ")
					}

					return ""
				}},
			{
				Name: "the candidate of a leader is in etcd, unless it is deleted by hand",
				Broken: func(w *world) string {
					for i := range w.processes {
						p := &w.processes[i]
						term := p.core.term(w.now)
						if term.Token != 0 && term.Token != p.now.created && !p.removed {
							return fmt.Sprintf("instance %d leads with %+v, and its candidate in etcd has create revision %d",
								i, term, p.now.created)
						}
					}

					return ""
				}},
			{Name: "a lease that is given up is revoked", Broken: func(w *world) string {
				for i := range w.processes {
					p := &w.processes[i]
					c := &p.core
					if c.phase == absent && p.now.leased && c.lease == clientv3.LeaseID(c.number) {
						return fmt.Sprintf("instance %d has left its lease in etcd", i)
					}
				}

				return ""
			}},
			{
				Name:   "a leader that resigns waits for its call, within the grace",
				Broken: func(w *world) string { return w.cut },
			},
			{
				Name: "a leader that resigns without a call ends, and admits none",
				Broken: func(w *world) string {
					for i := range w.processes {
						p := &w.processes[i]
						c := p.core
						if c.phase == placed &&
							!c.endAt.IsZero() &&
							(p.call != c.number || c.enter(w.now, c.own.Created, true)) {
							return fmt.Sprintf("instance %d leads on, or admits a call", i)
						}
					}

					return ""
				}},
			{Name: "a new leader has the highest token", Broken: func(w *world) string {
				return w.late
			}},
		},
		Settle: func(w *world) string {
			leads := 0
			stand := true
			for i := range w.processes {
				for _, h := range goesOn {
					if w.happens(h, i) {
						return fmt.Sprint(i, " ", h.name)
					}
				}

				p := &w.processes[i]
				led := p.core.term(w.now) != (Term{})
				if led {
					leads++
				}

				stand = stand &&
					(p.drained || p.now.created != 0 && p.core.phase == placed) &&
					!(led && p.drained && !w.processes[1-i].drained)
			}

			if leads == 1 && stand {
				return ""
			}

			second(w)

			return "a second passes"
		},
		Within: 200,
	}
	for range 3 { // so that failures are rarer
		walked.Events = slices.Concat(walked.Events, events(goesOn),
			walked.Events[len(walked.Events)-1:])
	}

	t.Run("short", func(t *testing.T) { modelcheck.Walk(t, 50000, 100, walked) })
	t.Run("long", func(t *testing.T) { modelcheck.Walk(t, 4000, 1000, walked) })
}
