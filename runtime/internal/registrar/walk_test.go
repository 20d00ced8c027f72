package registrar

import (
	"fmt"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// kept is an entry that was placed.
type kept struct {
	paused  bool
	dropped bool
	state   lease.State
}

// walked is a server, and what its group has done.
type walked struct {
	core       core
	announcing bool // an announcement has begun, and has not ended
	located    bool // in the last announcement, as heard, warned and kept
	withdrawn  bool // there was no announcement since the last withdraw
	ending     bool
	heard      []healthcheck.Health
	warned     []bool // a fault of its health service was logged
	kept       []kept
	fault      string // how an event broke a rule
}

func (w *walked) rule(rule string, holds bool) {
	if !holds && w.fault == "" {
		w.fault = rule
	}
}

// step passes an event to the core, and carries out its effects.
func (w *walked) step(e event) {
	first := w.core.run == 0
	ended := e.run != w.core.run || !w.announcing
	late := first && e.kind > serve || e.run != 0 && ended
	do, err := w.core.step(e)

	switch {
	case late:
		w.rule("events outside of their announcement do nothing", do == effects{})
	case e.kind <= serve:
		can := !w.announcing &&
			!w.ending &&
			(!w.located || w.withdrawn) &&
			(e.kind == announce || first)

		w.rule("one announcement begins at a time, after the entries of the last one are dropped, none while the server ends, and Serve's only as the first",
			can == (err == nil))

		if err == nil {
			n := len(w.core.entries)
			w.announcing = true
			w.located = false
			w.withdrawn = false
			w.heard = make([]healthcheck.Health, n)
			w.warned = make([]bool, n)
			w.kept = nil
		}

	case e.kind == heard:
		faulty := e.health.Problem != ""
		w.rule("a fault of the health service is logged once for each entry",
			(do.warn != "") == (faulty && !w.warned[e.entry]))
		w.heard[e.entry] = e.health
		w.warned[e.entry] = w.warned[e.entry] || faulty

	case e.kind == withdraw:
		w.announcing = false
		w.withdrawn = true
		w.rule("a withdrawal ends the announcement, and waits", do.end && do.drop)

	case e.kind == end:
		w.announcing = false
		w.ending = true
		w.rule("the end of a server ends the announcement", do.end)
	}

	if do.place {
		w.located = true
		w.rule("entries are placed in an announcement", w.announcing)

		for _, of := range w.core.entries {
			w.kept = append(w.kept, kept{paused: !of.health.OK})
		}
	}

	if do.pause && w.located {
		w.kept[e.entry].paused = !e.health.OK
	}

	for i := range w.kept {
		w.kept[i].dropped = w.kept[i].dropped || do.drop
	}
}

// events are the calls of a server, the events of its announcements, which may
// be late, and the states of its entries.
func events() (all []modelcheck.Event[walked]) {
	add := func(name string, possible func(w *walked) bool, do func(w *walked)) {
		all = append(all, modelcheck.Event[walked]{Name: name, Do: func(w *walked) bool {
			if !possible(w) {
				return false
			}

			do(w)

			return true
		}})
	}

	always := func(*walked) bool { return true }
	add("a service is published", always, func(w *walked) {
		name := fmt.Sprint("a.A", len(w.core.entries))
		err := w.core.publish(Entry{Key: name + "/", Services: []string{name}}, Details{})
		can := !w.announcing && !w.ending
		w.rule("services are published between announcements", can == (err == nil))
	})

	add("Announce", always, func(w *walked) { w.step(event{kind: announce}) })
	add("Serve", always, func(w *walked) { w.step(event{kind: serve}) })
	add("Withdraw", always, func(w *walked) { w.step(event{kind: withdraw}) })
	add("the end", always, func(w *walked) { w.step(event{kind: end}) })

	ending := func(w *walked) bool { return w.ending }
	add("Serve returns", ending, func(w *walked) { w.step(event{kind: drained}) })

	for back, of := range []string{"", "of an earlier announcement: "} {
		begun := func(w *walked) bool { return w.core.run > back }
		locatable := func(w *walked) bool { return begun(w) && (back > 0 || !w.located) }
		add(of+"located", locatable, func(w *walked) {
			w.step(event{kind: located, run: w.core.run - back})
		})

		add(of+"a failure", begun, func(w *walked) {
			w.step(event{kind: withdraw, run: w.core.run - back})
		})

		followed := func(w *walked) bool { return begun(w) && len(w.heard) > 0 }
		for _, h := range []healthcheck.Health{
			{OK: true},
			{OK: false},
			{OK: true, Problem: "it fails"},
		} {
			add(fmt.Sprintf("%sthe last one has %+v", of, h), followed, func(w *walked) {
				w.step(event{
					kind:   heard,
					run:    w.core.run - back,
					entry:  len(w.heard) - 1,
					health: h,
				})
			})
		}
	}

	placed := func(w *walked) bool { return len(w.kept) > 0 }
	add("the last entry is lost", placed, func(w *walked) {
		w.kept[len(w.kept)-1].state = lease.Lost
	})

	add("all entries are registered", placed, func(w *walked) {
		for i := range w.kept {
			w.kept[i].state = lease.Registered
		}
	})

	return all
}

// TestWalkServer walks random orders of events of a server, whose model carries
// out what the core decides.
func TestWalkServer(t *testing.T) {
	every := func(w *walked, holds func(i int, k kept) bool) string {
		for i, k := range w.kept {
			if !holds(i, k) {
				return fmt.Sprintf("entry %d: %+v", i, k)
			}
		}

		return ""
	}

	modelcheck.Walk(t, 5000, 40, modelcheck.World[walked]{
		Start:  func() *walked { return new(walked) },
		Events: events(),
		Rules: []modelcheck.Rule[walked]{
			{Name: "a rule of an event", Broken: func(w *walked) string { return w.fault }},
			{
				Name: "an entry is dropped at the latest when the server is withdrawn",
				Broken: func(w *walked) string {
					return every(w, func(_ int, k kept) bool { return k.dropped || !w.withdrawn })
				}},
			{
				Name: "an entry is paused while it is unhealthy, until the announcement ends",
				Broken: func(w *walked) string {
					return every(w, func(i int, k kept) bool {
						return !w.announcing || k.paused != w.heard[i].OK
					})
				}},
			{
				Name: "the server is registered while it is announced, and all of its entries are",
				Broken: func(w *walked) string {
					var states []lease.State
					for _, k := range w.kept {
						states = append(states, k.state)
					}

					all := every(w, func(_ int, k kept) bool {
						return k.state == lease.Registered
					}) == ""
					want := w.announcing && len(w.kept) == len(w.core.entries) && all

					got := w.core.registered(slices.Values(states))
					if got != want ||
						len(states) > 0 && w.core.registered(slices.Values(states[1:])) {
						return fmt.Sprintf("registered with the states %v: %v", states, got)
					}

					return ""
				}},
		},
		Settle: func(w *walked) string {
			if w.withdrawn || w.core.run == 0 {
				return ""
			}

			w.step(event{kind: withdraw})

			return "Withdraw"
		},
		Within: 1,
	})
}
