package election

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

var errLost = errors.New("no answer")

func TestCoreIsPure(t *testing.T) { coretest.Check(t, "core.go") }

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return begin.Add(d) }

// own returns a candidacy of the key "a".
func own(created int64, until time.Duration) lease.Candidacy {
	return lease.Candidacy{Key: "a", Created: created, Until: at(until)}
}

// When etcd is asked, and when a leadership is looked at again. Who may lead is for the walk.
func TestCore(t *testing.T) {
	const s = time.Second
	first := First{Key: "a", Created: 5}
	lead := func(c *core) {
		c.stood(at(0), own(5, 10*s))
		c.heard(at(0), View{First: first})
		c.answered(at(0), c.asking, answer{first: first})
	}
	for _, row := range []struct {
		rule string
		do   func(c *core) effects
		ask  uint64        // the number of the question
		wake time.Duration // 0: never
		term int64         // at 1 s
	}{
		{"the first asks", func(c *core) effects { c.stood(at(0), own(5, 10*s)); return c.heard(at(0), View{First: first}) }, 1, 0, 0},
		{"once", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			return c.stood(at(0), own(5, 11*s))
		}, 0, 0, 0},
		{"leads when etcd says so", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			return c.answered(at(0), c.asking, answer{first: first})
		}, 0, 10 * s, 5},
		{"not if etcd names another", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			return c.answered(at(0), c.asking, answer{first: First{Key: "b", Created: 4}})
		}, 0, askAgainMin, 0},
		{"asks again without an answer", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			c.answered(at(0), c.asking, answer{err: errLost})
			return c.tick(at(askAgainMin))
		}, 2, 0, 0},
		{"less and less often", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			c.answered(at(0), c.asking, answer{err: errLost})
			c.tick(at(askAgainMin))
			return c.answered(at(0), c.asking, answer{err: errLost})
		}, 0, 2 * askAgainMin, 0},
		{"an answer for a candidate before counts for nothing", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			question := c.asking
			c.stood(at(0), lease.Candidacy{})
			c.stood(at(0), own(5, 10*s)) // after a restore of etcd, revisions repeat
			return c.answered(at(0), question, answer{first: first})
		}, 0, 0, 0},
		{"nor does one that was given before the candidate was lost", func(c *core) effects {
			lead(c)
			c.stood(at(0), lease.Candidacy{})
			return c.stood(at(0), own(5, 10*s))
		}, 2, 0, 0},
		{"goes on when it is renewed", func(c *core) effects { lead(c); return c.stood(at(s), own(5, 12*s)) }, 0, 12 * s, 5},
		{"steps down by its clock", func(c *core) effects { lead(c); return c.stood(at(0), own(5, s)) }, 0, s, 0},
		{"whom etcd refuses to say asks whether it still does", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			c.answered(at(0), c.asking, answer{err: errLost, refused: true})
			return c.stood(at(0), lease.Candidacy{})
		}, 0, refusedMin, 0},
		{"and has to ask again who leads", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			c.heard(at(0), View{First: first})
			c.answered(at(0), c.asking, answer{err: errLost, refused: true})
			c.tick(at(refusedMin))
			return c.answered(at(refusedMin), c.asking, answer{})
		}, 3, 0, 0},
		{"asks though its watch is refused", func(c *core) effects {
			c.stood(at(0), own(5, 10*s))
			return c.heard(at(0), View{First: First{Key: "b", Created: 4}, Blind: true})
		}, 1, 0, 0},
		{"yields to another that can lead", func(c *core) effects { lead(c); return c.heard(at(0), View{First: first, Yields: true}) }, 0, 0, 0},
		{"and stands again where none can", func(c *core) effects {
			lead(c)
			c.heard(at(0), View{First: first, Yields: true})
			return c.heard(at(0), View{First: first})
		}, 0, 10 * s, 5},
		{"leads no more once it has resigned", func(c *core) effects { lead(c); return c.resign(at(0), 5) }, 0, 0, 0},
		{"stands aside until its candidate is gone", func(c *core) effects {
			lead(c)
			c.resign(at(0), 5)
			c.stood(at(0), lease.Candidacy{})
			return c.stood(at(0), own(5, 10*s))
		}, 0, 0, 0},
		{"and then stands again", func(c *core) effects {
			lead(c)
			c.resign(at(0), 5)
			c.stood(at(0), lease.Candidacy{})
			c.heard(at(0), View{})
			c.stood(at(0), own(9, 10*s))
			return c.heard(at(0), View{First: First{Key: "a", Created: 9}})
		}, 2, 0, 0},
		{"does not resign with another token", func(c *core) effects { lead(c); return c.resign(at(0), 4) }, 0, 10 * s, 5},
		{"a new key is a new candidate", func(c *core) effects {
			lead(c)
			c.stood(at(0), own(9, 10*s))
			return c.heard(at(0), View{First: First{Key: "a", Created: 9}})
		}, 2, 0, 0},
	} {
		var c core
		e := row.do(&c)
		wake := time.Duration(0)
		if !e.wake.IsZero() {
			wake = e.wake.Sub(begin)
		}
		if term := c.term(at(time.Second)).Token; e.ask != row.ask || wake != row.wake || term != row.term {
			t.Errorf("%s: asks for %d, wakes at %v, leads with %d; want %d, %v, %d", row.rule, e.ask, wake, term, row.ask, row.wake, row.term)
		}
	}
}

// Candidates are created at revisions that grow, unless etcd was restored: that is told once.
func TestE5_TokensThatComeAgain(t *testing.T) {
	var c core
	for i, row := range []struct {
		own, first, back int64
	}{{5, 5, 0}, {0, 9, 0}, {11, 11, 0}, {11, 20, 0}, {0, 0, 0}, {7, 7, 20}, {0, 0, 0}, {8, 8, 0}} {
		e := c.stood(at(0), own(row.own, time.Minute))
		if c.heard(at(0), View{First: First{Key: "a", Created: row.first}}); e.back != row.back {
			t.Errorf("step %d tells of %d, want %d", i, e.back, row.back)
		}
	}
}

// The clock that runs while the machine sleeps ends a leadership, too.
func TestEnded(t *testing.T) {
	now := time.Now()
	if ended(now, now.Add(time.Second)) || !ended(now, now) {
		t.Error("by the monotonic clock")
	}
	asleep := now.Round(0).Add(time.Hour) // the monotonic reading is gone, so the wall clocks are compared
	if !ended(asleep, now.Add(time.Second)) {
		t.Error("by the wall clock")
	}
}

// The world of the walk is etcd and two instances. A TTL is ttl ticks, and a candidacy one less.
const ttl = 3

type instance struct {
	core    core
	created int64 // in etcd; 0: there is none
	expires int   // when etcd ends the lease
	proven  int   // until when the instance knows that it lives
	renewed int   // a renewal under way, 1 more than when it was sent; 0: none
}

type world struct {
	now       int
	revision  int64
	instances [2]instance
	drained   [2]bool
	highest   int64 // token that a fenced store has seen
	refused   bool
}

func (w *world) time() time.Time { return at(time.Duration(w.now) * time.Second) }

func (w *world) key(i int) string { return fmt.Sprint("k", i) }

// first returns the candidate that precedes all others.
func (w *world) first() (first First) {
	for i := range w.instances {
		if one := (First{Key: w.key(i), Created: w.instances[i].created}); one.Created != 0 && one.Precedes(first) {
			first = one
		}
	}
	return first
}

// view returns what an instance is told by its watch.
func (w *world) view(i int) View {
	return View{First: w.first(), Yields: w.drained[i] && !w.drained[1-i] && w.instances[1-i].created != 0}
}

// stand has etcd create a candidate at its revision.
func (w *world) stand(i int) {
	x := &w.instances[i]
	x.created, x.expires, x.proven, x.renewed = w.revision, w.now+ttl, w.now+ttl, 0
	w.stood(i)
}

// free reports whether an instance has no candidate, and knows it, and is to have one.
func (w *world) free(i int) bool {
	return !w.instances[i].core.aside() && w.instances[i].created == 0 && w.instances[i].core.own == (lease.Candidacy{})
}

// stood tells an instance of its candidate.
func (w *world) stood(i int) {
	x := &w.instances[i]
	own := lease.Candidacy{Key: w.key(i), Created: x.created, Until: at(time.Duration(x.proven-1) * time.Second)}
	if x.created == 0 {
		own = lease.Candidacy{}
	}
	x.core.stood(w.time(), own)
}

func events(i int) []coretest.Event[world] {
	name := func(what string) string { return fmt.Sprint(what, " ", i) }
	return []coretest.Event[world]{
		{Name: name("stand"), Do: func(w *world) bool {
			if !w.free(i) {
				return false
			}
			w.revision++
			w.stand(i)
			return true
		}},
		{Name: name("renew"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.created == 0 || x.renewed != 0 {
				return false
			}
			x.renewed, x.expires = w.now+1, w.now+ttl
			return true
		}},
		{Name: name("renewed"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.renewed == 0 || x.core.own.Created == 0 {
				return false
			}
			x.proven = max(x.proven, x.renewed-1+ttl)
			x.renewed = 0
			x.core.stood(w.time(), lease.Candidacy{Key: w.key(i), Created: x.core.own.Created, Until: at(time.Duration(x.proven-1) * time.Second)})
			return true
		}},
		{Name: name("resign"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.core.own == (lease.Candidacy{}) {
				return false
			}
			x.core.stood(w.time(), lease.Candidacy{})
			x.created, x.renewed = 0, 0
			return true
		}},
		{Name: name("hear"), Do: func(w *world) bool {
			if w.instances[i].core.view == w.view(i) {
				return false
			}
			w.instances[i].core.heard(w.time(), w.view(i))
			return true
		}},
		{Name: name("answer"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.core.asking == 0 {
				return false
			}
			x.core.answered(w.time(), x.core.asking, answer{first: w.first()})
			return true
		}},
		{Name: name("no answer"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.core.asking == 0 {
				return false
			}
			x.core.answered(w.time(), x.core.asking, answer{err: errLost})
			return true
		}},
		{Name: name("a refusal"), Do: func(w *world) bool {
			x := &w.instances[i]
			if x.core.asking == 0 {
				return false
			}
			x.core.answered(w.time(), x.core.asking, answer{err: errLost, refused: true})
			return true
		}},
		{Name: name("drain"), Do: func(w *world) bool {
			w.drained[i] = !w.drained[i]
			return true
		}},
		{Name: name("write"), Do: func(w *world) bool {
			token := w.instances[i].core.term(w.time()).Token
			if token == 0 || token == w.highest {
				return false
			}
			w.refused, w.highest = token < w.highest, max(w.highest, token)
			return true
		}},
	}
}

// settle does what an instance does when nothing goes wrong.
func settle(w *world, i int) string {
	x := &w.instances[i]
	stand, renew, renewed, resign, hear, answer := 0, 1, 2, 3, 4, 5
	steps := []int{stand, hear, answer}
	switch {
	case x.created == 0 || x.core.aside():
		steps = []int{resign, stand, hear, answer}
	case x.proven-1 <= w.now+1:
		steps = append(steps, renewed, renew)
	}
	all := events(i)
	for _, n := range steps {
		if all[n].Do(w) {
			return all[n].Name
		}
	}
	return ""
}

func TestWalk(t *testing.T) {
	pass := coretest.Event[world]{Name: "a tick", Do: func(w *world) bool {
		w.now++
		for i := range w.instances {
			x := &w.instances[i]
			if x.created != 0 && w.now >= x.expires {
				x.created = 0
			}
			x.core.tick(w.time())
		}
		return true
	}}
	// As by an instance of an earlier version, or by somebody else.
	together := coretest.Event[world]{Name: "stand together", Do: func(w *world) bool {
		if !w.free(0) || !w.free(1) {
			return false
		}
		w.revision++
		w.stand(0)
		w.stand(1)
		return true
	}}
	coretest.Walk(t, 8, coretest.World[world]{
		Start: func() *world { return new(world) },
		Copy:  func(w *world) *world { c := *w; return &c },
		Key: func(w *world) string {
			k := *w
			for i := range k.instances {
				c := &k.instances[i].core
				c.asked, c.asking, c.others, c.highest = 0, min(c.asking, 1), 0, 0
			}
			return fmt.Sprintf("%+v", k)
		},
		Events: append(append(events(0), events(1)...), together, pass),
		Rules: []coretest.Rule[world]{
			{Name: "never two leaders", Broken: func(_, w *world) string {
				a, b := w.instances[0].core.term(w.time()), w.instances[1].core.term(w.time())
				if a != (Term{}) && b != (Term{}) {
					return fmt.Sprintf("both lead: %+v, %+v", a, b)
				}
				return ""
			}},
			{Name: "a leader's key is in etcd", Broken: func(_, w *world) string {
				for i := range w.instances {
					x := &w.instances[i]
					if term := x.core.term(w.time()); term.Token != 0 && term.Token != x.created {
						return fmt.Sprintf("%d leads with %+v, and etcd has %d", i, term, x.created)
					}
				}
				return ""
			}},
			{Name: "a fence refuses no leader", Broken: func(_, w *world) string {
				if w.refused {
					return "a leader's token is below one before"
				}
				return ""
			}},
		},
		Settle: func(w *world) string {
			for i := range w.instances {
				if name := settle(w, i); name != "" {
					return name
				}
			}
			if w.instances[0].core.term(w.time()) == (Term{}) && w.instances[1].core.term(w.time()) == (Term{}) {
				pass.Do(w)
				return "a tick"
			}
			return ""
		},
		Within: 60,
	})
}
