// Package modelcheck tests a core with random sequences of events. A core is a
// value whose transitions depend only on their arguments. A shell around the
// core carries out the core's decisions.
//
// "go test -run Walk ./runtime/internal/lease/reconcile -args -times 10" walks
// ten times as many sequences as by default.
package modelcheck

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var times = flag.Int("times", 1, "walk this many times as often")

// World describes a core and a model of its surroundings. The model applies the
// core's effects and sends events to the core. S is a state of both.
type World[S any] struct {
	Start  func() *S
	Events []Event[S]
	Rules  []Rule[S]

	// Settle takes the next step without further faults, and returns its name,
	// or "" if the state has recovered. The state must recover after at most
	// Within such steps.
	Settle func(*S) string

	Within int
}

// Event is a possible event.
type Event[S any] struct {
	Name string

	// changes the state, or returns false if the event is impossible in that
	// state
	Do func(*S) bool
}

// Rule is an invariant.
type Rule[S any] struct {
	Name   string
	Broken func(*S) string // how a state breaks the rule, "" if it does not
}

// Verdict is how a transition broke a rule, "" if none did.
type Verdict string

// Record sets v to how a transition breaks a rule, unless v is set already.
func (v *Verdict) Record(format string, args ...any) {
	if *v == "" {
		*v = Verdict(fmt.Sprintf(format, args...))
	}
}

// Walk walks n random sequences of at most events events, the same ones each
// time. It fails the test with a sequence that breaks a rule, panics, or leads
// to a state that does not recover.
//
// Walk skips the test with -short, which the tests with the race detector use:
// a core has no goroutines, and the walks would take ten times as long. "make
// cores" runs the walks.
func Walk[S any](t *testing.T, n, events int, w World[S]) {
	t.Helper()

	if testing.Short() {
		t.Skip("walks are skipped with -short")
	}

	met := make([]bool, len(w.Events))
	for seed := range n * *times {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		sequence := make([]int, 1+random.IntN(events))
		for i := range sequence {
			sequence[i] = random.IntN(len(w.Events))
		}

		if broken := w.run(sequence, met); broken != "" {
			t.Fatal(w.shorten(sequence, broken))
		}
	}

	for i, e := range w.Events {
		if !met[i] {
			t.Errorf("%q never happened", e.Name)
		}
	}
}

// run walks a sequence, without the events that are impossible, and returns how
// it breaks a rule, "" if it does not. run sets met[i] if event i happened.
func (w World[S]) run(sequence []int, met []bool) (broken string) {
	defer func() {
		if r := recover(); r != nil {
			broken = fmt.Sprint("the core panics: ", r)
		}
	}()

	s := w.Start()
	for _, event := range sequence {
		if !w.Events[event].Do(s) {
			continue
		}

		met[event] = true

		if broken := w.broken(s); broken != "" {
			return broken
		}
	}

	for steps := 0; ; steps++ {
		step := w.Settle(s)
		broken := w.broken(s)

		switch {
		case broken != "":
			return broken + "\nwithout further faults, in step: " + step
		case step == "":
			return ""
		case steps == w.Within:
			return fmt.Sprintf("the state does not recover within %d steps: %s",
				w.Within, step)
		}
	}
}

func (w World[S]) broken(s *S) string {
	for _, rule := range w.Rules {
		if how := rule.Broken(s); how != "" {
			return rule.Name + ": " + how
		}
	}

	return ""
}

// shorten describes a sequence that breaks a rule, without the events that are
// not needed to break a rule.
func (w World[S]) shorten(sequence []int, broken string) string {
	for i := len(sequence) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(sequence), i, i+1)
		if b := w.run(without, make([]bool, len(w.Events))); b != "" {
			sequence = without
			broken = b
		}
	}

	var text strings.Builder
	text.WriteString(broken)

	for i, event := range sequence {
		fmt.Fprintf(&text, "\n  %d. %s", i+1, w.Events[event].Name)
	}

	return text.String()
}
