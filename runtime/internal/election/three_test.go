package election

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// mostFailures is how many things fail in TestThree.
const mostFailures = 2

// life is what etcd has of a life of a process, and what is on its way there.
type life struct {
	key     string
	leased  bool  // etcd has its lease
	created int64 // 0: etcd has no candidate
	put     bool  // one is on its way to etcd
	deleted bool  // as is its deletion
}

// contender is a process that stands for election.
type contender struct {
	life
	core     core
	clock    time.Time // its own
	sure     bool      // that etcd has its lease
	known    int64     // the candidate's revision, as far as it knows
	question uint64    // that etcd has answered
	read     First     // the answer, which is on its way
	drained  bool
	blind    bool // etcd does not let it watch the candidates
}

// three is the world of TestThree.
type three struct {
	revision   int64
	failed     int
	contenders [3]contender
	killed     [mostFailures]life
	led        int64  // the greatest token of a leader
	late       string // says who has begun to lead with one that is not greater
}

func (w *three) all() []*life {
	var all []*life
	for i := range w.contenders {
		all = append(all, &w.contenders[i].life)
	}
	for i := range w.killed {
		all = append(all, &w.killed[i])
	}
	return all
}

func (w *three) first() (first First) {
	for _, c := range w.all() {
		if one := (First{Key: c.key, Created: c.created}); one.Created != 0 && one.Precedes(first) {
			first = one
		}
	}
	return first
}

// view returns what a watch tells a contender when it has told all.
func (w *three) view(c *contender) View {
	v := View{First: w.first(), Blind: c.blind}
	for i := range w.contenders {
		other := &w.contenders[i]
		v.Yields = v.Yields || c.drained && other.created != 0 && !other.drained
	}
	return v
}

// fail counts a failure, and reports whether there may be one more.
func (w *three) fail() bool {
	w.failed++
	return w.failed <= mostFailures
}

func (c *contender) token() int64 { return c.core.term(c.clock).Token }

// stood tells the core what the process knows of its candidate.
func (c *contender) stood() {
	var own lease.Candidacy
	if c.known != 0 {
		own = lease.Candidacy{Key: c.key, Created: c.known, Until: c.clock}
		if c.sure {
			own.Until = c.clock.Add(time.Hour)
		}
	}
	c.core.stood(c.clock, own)
}

// forget has the process know that etcd has its candidate no more.
func (c *contender) forget() {
	c.known = 0
	c.stood()
}

// answered tells the core what comes of a question.
func (c *contender) answered(question uint64, a answer) {
	c.question, c.read = 0, First{}
	c.core.answered(c.clock, question, a)
}

// arrive has etcd carry out a put, unless the lease is gone.
func (w *three) arrive(c *life) bool {
	if !c.put {
		return false
	}
	if c.put = false; c.leased {
		w.revision++
		c.created = w.revision
	}
	return true
}

func (c *life) expire() bool {
	if !c.leased {
		return false
	}
	c.leased, c.created = false, 0
	return true
}

// happening is what may happen to a contender.
type happening struct {
	name string
	do   func(w *three, c *contender) bool
}

// goesOn is what happens where nothing fails.
var goesOn = []happening{
	{"is granted a lease", func(_ *three, c *contender) bool {
		if c.leased || c.known != 0 || c.put || c.deleted || c.core.aside() {
			return false
		}
		c.leased, c.sure = true, true
		return true
	}},
	{"puts its candidate", func(_ *three, c *contender) bool {
		if !c.sure || c.put || c.deleted || c.known != 0 || c.created != 0 || c.core.aside() {
			return false
		}
		c.put = true
		return true
	}},
	{"has its put carried out", func(w *three, c *contender) bool { return w.arrive(&c.life) }},
	{"hears of its put", func(_ *three, c *contender) bool {
		if c.known != 0 || c.created == 0 || c.deleted {
			return false
		}
		c.known = c.created
		c.stood()
		return true
	}},
	{"renews its lease", func(_ *three, c *contender) bool {
		if c.sure || !c.leased && c.known == 0 {
			return false
		}
		if c.sure = c.leased; !c.sure {
			c.known = 0
		}
		c.stood()
		return true
	}},
	{"hears that its candidate is gone", func(_ *three, c *contender) bool {
		if c.known == 0 || c.known == c.created {
			return false
		}
		c.forget()
		return true
	}},
	{"hears of the candidates", func(w *three, c *contender) bool {
		view := w.view(c)
		if c.core.view == view {
			return false
		}
		c.core.heard(c.clock, view)
		return true
	}},
	{"has its question answered", func(w *three, c *contender) bool {
		if c.core.asking == 0 || c.core.asking == c.question {
			return false
		}
		c.question, c.read = c.core.asking, w.first()
		return true
	}},
	{"hears the answer", func(_ *three, c *contender) bool {
		if c.question == 0 {
			return false
		}
		c.answered(c.question, answer{first: c.read})
		return true
	}},
	{"stands back", func(_ *three, c *contender) bool {
		if !c.core.aside() || c.known == 0 {
			return false
		}
		c.deleted = true
		c.forget()
		return true
	}},
	{"has its deletion carried out", func(_ *three, c *contender) bool {
		if !c.deleted {
			return false
		}
		c.deleted, c.created = false, 0
		return true
	}},
	{"has paused", func(_ *three, c *contender) bool {
		if !c.core.askAt.After(c.clock) {
			return false
		}
		c.clock = c.core.askAt
		c.stood()
		c.core.tick(c.clock)
		return true
	}},
}

// goesWrong is what counts as a failure.
var goesWrong = []happening{
	{"cannot renew its lease", func(w *three, c *contender) bool {
		if !c.sure || !w.fail() {
			return false
		}
		c.sure = false
		c.stood()
		return true
	}},
	{"resigns", func(w *three, c *contender) bool {
		if c.known == 0 || !w.fail() {
			return false
		}
		c.deleted = true
		c.forget()
		return true
	}},
	{"is asked to resign", func(w *three, c *contender) bool {
		if c.token() == 0 || !w.fail() {
			return false
		}
		c.core.resign(c.clock, c.token())
		return true
	}},
	{"has its candidate deleted by hand", func(w *three, c *contender) bool {
		if c.created == 0 || !w.fail() {
			return false
		}
		c.created = 0
		return true
	}},
	{"gets no answer", func(w *three, c *contender) bool {
		if c.core.asking == 0 || !w.fail() {
			return false
		}
		c.answered(c.core.asking, answer{err: errLost})
		return true
	}},
	{"is refused an answer", func(w *three, c *contender) bool {
		if c.core.asking == 0 || !w.fail() {
			return false
		}
		c.answered(c.core.asking, answer{err: errLost, refused: true})
		return true
	}},
	{"is refused the watch", func(w *three, c *contender) bool {
		if c.blind || !w.fail() {
			return false
		}
		c.blind = true
		return true
	}},
	{"is drained", func(w *three, c *contender) bool {
		if c.drained || !w.fail() {
			return false
		}
		c.drained = true
		return true
	}},
	{"is killed, and started again", func(w *three, c *contender) bool {
		if !w.fail() {
			return false
		}
		w.killed[w.failed-1] = c.life
		*c = contender{life: life{key: c.key + "'"}, clock: c.clock, drained: c.drained, blind: c.blind}
		return true
	}},
}

// elsewhere is what happens in etcd alone.
func elsewhere(w *three) []coretest.Event[three] {
	var all []coretest.Event[three]
	for i := range w.contenders {
		all = append(all, coretest.Event[three]{Name: fmt.Sprintf("etcd ends the lease of %d", i), Do: func(w *three) bool {
			c := &w.contenders[i]
			return !c.sure && c.expire()
		}})
	}
	for i := range w.killed {
		all = append(all,
			coretest.Event[three]{Name: fmt.Sprintf("a put of the killed %d is carried out", i), Do: func(w *three) bool { return w.arrive(&w.killed[i]) }},
			coretest.Event[three]{Name: fmt.Sprintf("etcd ends the lease of the killed %d", i), Do: func(w *three) bool { return w.killed[i].expire() }})
	}
	return all
}

// stateKey tells apart the states that differ in what can become of them. Of a revision that is whether it is the own one, and
// which of two is the greater; of the contenders it is not which is which.
func (w *three) stateKey() string {
	revisions := []int64{0, w.led}
	for _, c := range w.all() {
		revisions = append(revisions, c.created)
	}
	for i := range w.contenders {
		revisions = append(revisions, w.contenders[i].known)
	}
	slices.Sort(revisions)
	revisions = slices.Compact(revisions)
	rank := func(revision int64) byte {
		n, _ := slices.BinarySearch(revisions, revision)
		return byte('0' + n)
	}
	var contenders, killed []string
	for i := range w.contenders {
		c := &w.contenders[i]
		own := First{Key: c.key, Created: max(c.known, c.created)}
		contenders = append(contenders, c.state(rank)+string([]byte{
			rank(c.known), bits(c.sure, c.drained, c.blind, c.core.view.First == own, c.core.resigned != First{}, c.core.view.First == c.core.resigned),
			bits(c.core.view.Blind, c.core.view.Yields, c.core.refused, c.core.yielded, c.core.confirmed != 0 && c.core.confirmed == c.known),
			bits(c.core.asking != 0, c.question != 0, c.question == c.core.asking, c.read == own, c.core.askAt.After(c.clock)),
		}))
	}
	for i := range w.killed {
		killed = append(killed, w.killed[i].state(rank))
	}
	slices.Sort(contenders)
	slices.Sort(killed)
	return fmt.Sprint(rank(w.led), min(w.failed, mostFailures)) + strings.Join(contenders, "") + strings.Join(killed, "")
}

func (c *life) state(rank func(int64) byte) string {
	return string([]byte{rank(c.created), bits(c.leased, c.put && c.leased, c.deleted)})
}

func bits(all ...bool) byte {
	b := byte('@')
	for i, set := range all {
		if set {
			b |= 1 << i
		}
	}
	return b
}

// goOn does the first thing that can happen where nothing fails, and names it.
func (w *three) goOn(all []happening) string {
	for i := range w.contenders {
		for _, h := range all {
			if h.do(w, &w.contenders[i]) {
				return fmt.Sprint(i, " ", h.name)
			}
		}
	}
	for _, e := range elsewhere(w) {
		if e.Do(w) {
			return e.Name
		}
	}
	return ""
}

// begun notes who has begun to lead.
func (w *three) begun(before *three) {
	for i := range w.contenders {
		c := &w.contenders[i]
		token := c.token()
		if token == 0 || token == before.contenders[i].token() || token != c.created {
			continue
		}
		if token < w.led {
			w.late = fmt.Sprintf("%d begins to lead with %d, after one with %d", i, token, w.led)
		}
		w.led = max(w.led, token)
	}
}

// TestThree walks all that can become of three processes that stand for election if two things fail: of their cores, and of
// what they write to etcd. TestWalk ends after so many events; this one ends where there is nothing new. Messages take as long
// as they like, and the processes as long as they like to take in what they are told.
//
// It knows nothing of seconds. A process is sure of its lease or is not, and etcd ends none of which its process is sure:
// TestConfirmations and the walks of lease are about that.
func TestThree(t *testing.T) {
	var all []coretest.Event[three]
	for i := range len(three{}.contenders) {
		for _, h := range slices.Concat(goesOn, goesWrong) {
			all = append(all, coretest.Event[three]{Name: fmt.Sprint(i, " ", h.name), Do: func(w *three) bool {
				before := *w
				if !h.do(w, &w.contenders[i]) {
					return false
				}
				w.begun(&before)
				return true
			}})
		}
	}
	all = append(all, elsewhere(new(three))...)
	const noEnd = 1000
	coretest.Walk(t, noEnd, coretest.World[three]{
		Start: func() *three {
			w := new(three)
			for i := range w.contenders {
				w.contenders[i].life.key, w.contenders[i].clock = fmt.Sprint(i), begin
			}
			return w
		},
		Copy:   func(w *three) *three { c := *w; return &c },
		Key:    (*three).stateKey,
		Events: all,
		Rules: []coretest.Rule[three]{
			{Name: "one leads, unless a candidate was deleted by hand", Broken: func(_, w *three) string {
				var lead []string
				for i := range w.contenders {
					if c := &w.contenders[i]; c.token() != 0 && c.token() == c.created {
						lead = append(lead, fmt.Sprintf("%d with %d", i, c.token()))
					}
				}
				if len(lead) > 1 {
					return strings.Join(lead, ", ")
				}
				return ""
			}},
			{Name: "who begins to lead has the greatest token", Broken: func(_, w *three) string { return w.late }},
		},
		Settle: func(w *three) string {
			paused := len(goesOn) - 1
			if name := w.goOn(goesOn[:paused]); name != "" {
				return name
			}
			leads := 0
			for i := range w.contenders {
				if w.contenders[i].token() != 0 {
					leads++
				}
			}
			if leads == 1 {
				return ""
			}
			if name := w.goOn(goesOn[paused:]); name != "" {
				return name
			}
			return fmt.Sprintf("nothing happens any more, and %d lead", leads)
		},
		Within: 100,
	})
}
