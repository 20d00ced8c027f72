package registrar

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// walked is the core of a server with its announcements, as [Group] carries its effects out.
type walked struct {
	core      core
	runs      []announced // one for each round
	withdrawn bool        // since the server began to end
	heard     []bool      // whether each entry was healthy by the last word, in the present round
	broken    string
}

// announced is one announcement.
type announced struct {
	over    bool
	dropped bool
	started bool
	states  []lease.State // of its entries, once started
}

// last returns the last announcement, nil if there is none.
func (w *walked) last() *announced {
	if len(w.runs) == 0 {
		return nil
	}
	return &w.runs[len(w.runs)-1]
}

func (w *walked) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

func (w *walked) begin(on event) bool {
	if w.core.begin(on) != nil {
		return false
	}
	w.runs = append(w.runs, announced{})
	w.heard = make([]bool, len(w.core.entries))
	return true
}

// carryOut carries out the effects of an event of a round.
func (w *walked) carryOut(run *announced, effects effect) {
	if effects&unfollow != 0 {
		if run.over {
			w.breaks("an announcement ends once")
		}
		run.over = true
	}
	if effects&drop != 0 {
		run.dropped = true
		for i := range run.states {
			run.states[i] = lease.Closed
		}
	}
}

// step takes in an event of the last announcement.
func (w *walked) step(on event) bool {
	run := w.last()
	if run == nil {
		return false
	}
	w.carryOut(run, w.core.step(on))
	return true
}

// stepEarlier takes in an event of an announcement before the last, which must change nothing.
func (w *walked) stepEarlier(on event) bool {
	if len(w.runs) < 2 {
		return false
	}
	phase := w.core.phase
	if effects := w.core.stepRound(len(w.runs)-1, on); effects != 0 || w.core.phase != phase {
		w.breaks("G24: the later word counts: an earlier announcement that is %v has led to phase %v", on, w.core.phase)
	}
	return true
}

// start hears of the health of the entries, of which the first has this one, and registers them.
func (w *walked) start(ok bool) bool {
	run := w.last()
	if run == nil || run.over || run.started {
		return false
	}
	run.started = true
	run.states = make([]lease.State, len(w.core.entries))
	for i := range run.states {
		w.heard[i] = ok || i > 0
		w.core.hear(len(w.runs), i, healthcheck.Health{OK: w.heard[i]})
		w.set(run, i)
	}
	return true
}

// set has an entry go where its health wants it.
func (w *walked) set(run *announced, i int) {
	run.states[i] = lease.Registering
	if w.core.paused(i) {
		run.states[i] = lease.Paused
	}
}

// becomes has the lease session report the state of an entry.
func (w *walked) becomes(i int, from, to lease.State) bool {
	run := w.last()
	if run == nil || i >= len(run.states) || run.states[i] != from {
		return false
	}
	run.states[i] = to
	w.observe()
	return true
}

func (w *walked) observe() {
	run := w.last()
	all := w.core.live(len(w.runs))
	for _, s := range run.states {
		all = all && s == lease.Registered
	}
	if got := w.core.observe(len(w.runs), run.states); got != (all && len(run.states) == len(w.core.entries)) {
		w.breaks("what is reported as registered is: %v with %v", got, run.states)
	}
}

func (w *walked) hear(ok bool) bool {
	run := w.last()
	if run == nil {
		return false
	}
	if counts := w.core.hear(len(w.runs), 0, healthcheck.Health{OK: ok}); counts != w.core.live(len(w.runs)) {
		w.breaks("health counts while the entries are wanted")
	} else if counts {
		w.heard[0] = ok
		if run.started {
			w.set(run, 0)
		}
	}
	return true
}

func (w *walked) hearEarlier() bool {
	if len(w.runs) > 1 && w.core.hear(len(w.runs)-1, 0, healthcheck.Health{}) {
		w.breaks("an earlier announcement's health does not count")
	}
	return len(w.runs) > 1
}

// settle ends the server as Serve does.
func (w *walked) settle() string {
	switch w.core.phase {
	case idle, stopped:
		for _, run := range w.runs {
			if run.started && !run.dropped {
				return "nothing happens, and entries are left"
			}
		}
		return ""
	case draining:
		if !w.withdrawn {
			w.withdrawn = true
			w.step(withdraw)
			return "the entries are withdrawn"
		}
		w.step(drained)
		return "the server has stopped"
	default:
		w.step(end)
		return "the server ends"
	}
}

var phaseRules = []coretest.Rule[walked]{
	{Name: "always", Broken: func(_, w *walked) string { return w.broken }},
	{Name: "an announcement is over when nobody wants its entries", Broken: func(_, w *walked) string {
		for i, run := range w.runs {
			if live := w.core.live(i + 1); live == run.over {
				return fmt.Sprintf("announcement %d is wanted: %v, is over: %v", i, live, run.over)
			}
		}
		return ""
	}},
	{Name: "what is withdrawn leaves no entry", Broken: func(_, w *walked) string {
		for i, run := range w.runs {
			if later := i < len(w.runs)-1; run.started && !run.dropped && (later || w.core.phase == withdrawn) {
				return fmt.Sprintf("announcement %d has entries in phase %v", i, w.core.phase)
			}
		}
		return ""
	}},
	{Name: "G11: what is unhealthy is paused", Broken: func(_, w *walked) string {
		for i, h := range w.heard {
			if w.core.paused(i) == h {
				return fmt.Sprintf("entry %d is paused: %v", i, w.core.paused(i))
			}
		}
		return ""
	}},
	{Name: "a server that serves has had its entries in etcd", Broken: func(before, w *walked) string {
		if before.core.phase == serving || w.core.phase != serving {
			return ""
		}
		for i, s := range w.last().states {
			if s != lease.Registered && (s != lease.Paused || !w.core.paused(i)) {
				return fmt.Sprintf("entry %d is %v", i, s)
			}
		}
		return ""
	}},
}

func TestWalk(t *testing.T) {
	entries := []Entry{published(t, "a.A", "a"), published(t, "b.B", "b")}
	third := published(t, "c.C", "c")
	shape := &coretest.Shape{}
	coretest.Name(shape, func(e *endpoint.Layout) string { return e.String() })
	synced := func(w *walked) bool {
		run := w.last()
		return run != nil && run.started && !slices.ContainsFunc(run.states, func(s lease.State) bool { return s != lease.Registered && s != lease.Paused })
	}
	coretest.Walk(t, 11, coretest.World[walked]{
		Start: func() *walked { return &walked{core: core{entries: slices.Clone(entries)}} },
		Copy:  func(w *walked) *walked { return coretest.Copy(shape, w) },
		Key:   func(w *walked) string { return coretest.Key(shape, w, time.Time{}) },
		Rules: phaseRules, Settle: (*walked).settle, Within: 4,
		Events: []coretest.Event[walked]{
			{Name: "Announce", Do: func(w *walked) bool { return w.begin(announce) }},
			{Name: "Serve", Do: func(w *walked) bool { return w.begin(serve) }},
			{Name: "another service is published", Do: func(w *walked) bool {
				return len(w.core.entries) == len(entries) && w.core.publish(third, Details{}) == nil
			}},
			{Name: "the entries are started", Do: func(w *walked) bool { return w.start(true) }},
			{Name: "the entries are started, one unhealthy", Do: func(w *walked) bool { return w.start(false) }},
			{Name: "the first entry is in etcd", Do: func(w *walked) bool { return w.becomes(0, lease.Registering, lease.Registered) }},
			{Name: "the second entry is in etcd", Do: func(w *walked) bool { return w.becomes(1, lease.Registering, lease.Registered) }},
			{Name: "the third entry is in etcd", Do: func(w *walked) bool { return w.becomes(2, lease.Registering, lease.Registered) }},
			{Name: "the second entry is lost", Do: func(w *walked) bool { return w.becomes(1, lease.Registered, lease.Registering) }},
			{Name: "the first turns healthy", Do: func(w *walked) bool { return w.hear(true) }},
			{Name: "the first turns unhealthy", Do: func(w *walked) bool { return w.hear(false) }},
			{Name: "all are placed", Do: func(w *walked) bool { return synced(w) && w.step(placed) }},
			{Name: "the announcement fails", Do: func(w *walked) bool { return w.step(failed) }},
			{Name: "Withdraw", Do: func(w *walked) bool { w.withdrawn = w.core.phase == draining; return w.step(withdraw) }},
			{Name: "the server ends", Do: func(w *walked) bool { return w.step(end) }},
			{Name: "the server has stopped", Do: func(w *walked) bool { return w.withdrawn && w.step(drained) }},
			{Name: "an earlier announcement is placed", Do: func(w *walked) bool { return w.stepEarlier(placed) }},
			{Name: "an earlier announcement fails", Do: func(w *walked) bool { return w.stepEarlier(failed) }},
			{Name: "an earlier announcement hears of health", Do: (*walked).hearEarlier},
		},
	})
}
