package modelcheck

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	depth = flag.Int("depth", 0, "how many events deep each walk of a core goes; 0 for the default of each")
	lives = flag.Int("lives", 0, "how many random sequences of events of a core are run; 0 for the default of each")
)

// World describes a core and a model of its surroundings, which applies the core's effects and sends it events. S is a state of both.
type World[S any] struct {
	Start  func() *S
	Copy   func(*S) *S
	Key    func(*S) string // states with the same key have the same future, and are visited once
	Events []Event[S]
	Rules  []Rule[S]

	// Settle takes the next step without further faults, and returns its name, or "" if the state has recovered. Every
	// state must recover after at most Within such steps. Settle is nil if states need not recover.
	Settle func(*S) string
	Within int
}

// Event is a possible event.
type Event[S any] struct {
	Name string
	Do   func(*S) bool // changes the state, or returns false if the event is impossible in it
}

// Rule is an invariant.
type Rule[S any] struct {
	Name string
	// Broken returns how the step from one state to another breaks the rule, "" if it does not.
	Broken func(before, after *S) string
}

// Walk walks every sequence of events up to a length, the shortest first, and fails the test with
// the shortest one that breaks a rule, panics, or leads to a state that does not recover.
//
// It skips the test with -short.
func Walk[S any](t *testing.T, events int, w World[S]) {
	t.Helper()
	skipShort(t)
	usual := events
	if *depth > 0 {
		events = *depth
	}
	start := time.Now()
	r := &walker[S]{World: w, settled: make(map[key]int), met: make([]int, len(w.Events))}
	broken := r.walk(events)
	t.Logf("%d events deep: %d states, %d steps, %d settled, in %.1f s", events, len(r.trail), r.steps, len(r.settled), time.Since(start).Seconds())
	if broken != "" {
		t.Fatal(broken)
	}
	for i, n := range r.met {
		if n == 0 && events >= usual {
			t.Errorf("%q never happened", w.Events[i].Name)
		}
	}
}

// Live runs n random sequences, each of the given number of events, which reach rarer combinations than Walk. It fails
// the test with a sequence that breaks a rule, panics, or ends in a state that does not recover.
func Live[S any](t *testing.T, n, events int, w World[S]) {
	t.Helper()
	skipShort(t)
	if *lives > 0 {
		n = *lives
	}
	start := time.Now()
	r := &walker[S]{World: w, settled: make(map[key]int), met: make([]int, len(w.Events))}
	for seed := range uint64(n) {
		if broken, path := r.live(rand.New(rand.NewPCG(seed, 1)), events); broken != "" {
			t.Fatalf("random sequence %d: %s\n%s", seed, broken, strings.Join(path, "\n"))
		}
	}
	t.Logf("%d random sequences: %d steps in %.1f s", n, r.steps, time.Since(start).Seconds())
	for i, met := range r.met {
		if met == 0 {
			t.Errorf("%q never happened", w.Events[i].Name)
		}
	}
}

// skipShort skips the test with -short: make cores runs the walks, and the race detector, which
// finds nothing in a core without goroutines, makes them ten times slower.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("walks are skipped with -short")
	}
}

// live applies random events, and returns the broken rule and the events before it.
func (w *walker[S]) live(random *rand.Rand, events int) (broken string, path []string) {
	s := w.Start()
	for range events {
		event := random.IntN(len(w.Events))
		after, broken := w.step(s, event)
		if after == nil && broken == "" {
			continue
		}
		path = append(path, fmt.Sprintf("  %d. %s", len(path)+1, w.Events[event].Name))
		if broken != "" {
			return broken, path
		}
		s = after
	}
	return w.settle(s), path
}

type key [16]byte

func hash(text string) key {
	sum := sha256.Sum256([]byte(text))
	return key(sum[:16])
}

// walker is the state of a walk.
type walker[S any] struct {
	World[S]
	trail   []footstep  // the visited states, in order
	settled map[key]int // the number of steps until a state recovers
	steps   int
	met     []int // how often each event happened
}

// footstep is the event that first reached a state, and the state before the event.
type footstep struct {
	from  int32 // the index in trail of the state before; -1 for the start
	event int16
}

// walk returns the broken rule and the events before it, "" if no rule is broken.
func (w *walker[S]) walk(events int) string {
	type place struct {
		at    int32 // in trail
		state *S
	}
	first := w.Start()
	seen := map[key]struct{}{hash(w.Key(first)): {}}
	w.trail = []footstep{{-1, 0}}
	if broken := w.settle(first); broken != "" {
		return broken
	}
	level := []place{{0, first}}
	for n := 1; n <= events; n++ {
		var next []place
		for _, from := range level {
			for i := range w.Events {
				after, broken := w.step(from.state, i)
				if after == nil && broken == "" {
					continue
				}
				k := key{}
				if broken == "" {
					k = hash(w.Key(after))
					if _, ok := seen[k]; ok {
						continue
					}
					broken = w.settle(after)
				}
				seen[k] = struct{}{}
				w.trail = append(w.trail, footstep{from.at, int16(i)})
				at := int32(len(w.trail) - 1)
				if broken != "" {
					return broken + "\n" + strings.Join(w.path(at), "\n")
				}
				if n < events {
					next = append(next, place{at, after})
				}
			}
		}
		level = next
	}
	return ""
}

// step returns the state after an event, nil if the event is impossible, and the rule that it breaks.
func (w *walker[S]) step(from *S, event int) (after *S, broken string) {
	defer func() {
		if r := recover(); r != nil {
			after, broken = nil, fmt.Sprint("the core panics: ", r)
		}
	}()
	after = w.Copy(from)
	if !w.Events[event].Do(after) {
		return nil, ""
	}
	w.steps++
	w.met[event]++
	return after, w.broken(from, after)
}

func (w *walker[S]) broken(before, after *S) string {
	for _, rule := range w.Rules {
		if how := rule.Broken(before, after); how != "" {
			return rule.Name + ": " + how
		}
	}
	return ""
}

// settle follows a state until the state recovers, and returns why it does not, "" if it does.
func (w *walker[S]) settle(from *S) (broken string) {
	if w.Settle == nil {
		return ""
	}
	var done []string
	defer func() {
		if r := recover(); r != nil {
			broken = fmt.Sprint("the core panics: ", r)
		}
		if broken != "" {
			broken = fmt.Sprintf("%s\nwithout further faults, after\n  %s\nwhich followed", broken, strings.Join(done, "\n  "))
		}
	}()
	var passed []key
	for s := from; ; {
		k := hash(w.Key(s))
		left, known := w.settled[k]
		if !known {
			before := s
			s = w.Copy(s)
			if name := w.Settle(s); name != "" {
				if len(done) == w.Within {
					return fmt.Sprintf("the state does not recover within %d steps: %s", w.Within, name)
				}
				w.steps++
				passed, done = append(passed, k), append(done, name)
				if broken := w.broken(before, s); broken != "" {
					return broken
				}
				continue
			}
			w.settled[k] = 0
		}
		if len(done)+left > w.Within {
			return fmt.Sprintf("the state does not recover within %d steps, but within %d", w.Within, len(done)+left)
		}
		for i, k := range passed {
			w.settled[k] = left + len(passed) - i
		}
		return ""
	}
}

// path names the events that lead to a state.
func (w *walker[S]) path(at int32) []string {
	step := w.trail[at]
	if step.from < 0 {
		return nil
	}
	path := w.path(step.from)
	return append(path, fmt.Sprintf("  %d. %s", len(path)+1, w.Events[step.event].Name))
}
