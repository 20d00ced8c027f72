package schedule

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCheck takes what seeds draw and what was kept, and refuses it once a step names what there is not.
func TestCheck(t *testing.T) {
	changed := make(map[Kind]bool)
	for seed := range uint64(500) {
		s := New(seed)
		if err := s.Check(); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, s)
		}
		for i, step := range s.Steps {
			for _, wrong := range wrongSteps(step) {
				bad := clone(s)
				bad.Steps[i] = wrong
				changed[step.Kind] = true
				if err := bad.Check(); err == nil {
					t.Errorf("seed %d: %+v is taken", seed, wrong)
				}
			}
		}
	}
	for _, k := range slices.Concat(catalog, laterKinds) {
		if !changed[k.kind] {
			t.Errorf("no step of the kind %q was tried", k.kind)
		}
	}
	kept, err := filepath.Glob("../walk/testdata/*.json")
	if err != nil || len(kept) == 0 {
		t.Fatal(kept, err)
	}
	for _, file := range kept {
		if _, err := Load(file); err != nil {
			t.Error(err)
		}
	}
}

// wrongSteps returns a step with one thing at a time wrong.
func wrongSteps(step Step) []Step {
	words := find(step.Kind).words
	none, early := step, step
	none.Kind, early.At = none.Kind+"?", -time.Second
	wrong := []Step{none, early}
	for _, i := range []int{-1, 99} {
		if s := step; strings.Contains(words, "who}") {
			s.Who = i
			wrong = append(wrong, s)
		}
		if s := step; strings.Contains(words, "whom}") {
			s.Whom = i
			wrong = append(wrong, s)
		}
	}
	return wrong
}

func TestCheckWorlds(t *testing.T) {
	for name, change := range map[string]func(*Schedule){
		"no members":            func(s *Schedule) { s.Members = 0 },
		"two members":           func(s *Schedule) { s.Members = 2 },
		"no servers":            func(s *Schedule) { s.Servers, s.Steps = nil, nil },
		"no callers":            func(s *Schedule) { s.Callers, s.Steps = nil, nil },
		"a mode":                func(s *Schedule) { s.Servers[0].Mode = "?" },
		"a layout":              func(s *Schedule) { s.Servers[0].Layouts = []string{"?"} },
		"a writer's layout":     func(s *Schedule) { s.Writers = []Writer{{"?"}} },
		"a policy":              func(s *Schedule) { s.Callers[0].Policy = "{" },
		"a second server":       func(s *Schedule) { s.Servers[0].Mode, s.Servers[0].Second = Register, true },
		"an own policy":         func(s *Schedule) { s.Callers[0].Own = "{" },
		"a subset":              func(s *Schedule) { s.Callers[0].Subset = -1 },
		"a lease":               func(s *Schedule) { s.TTL = -1 },
		"what is never ready":   func(s *Schedule) { s.Servers[0].Mode, s.Servers[0].Unready = Register, 1 },
		"a right":               func(s *Schedule) { s.Steps = []Step{{Kind: RightsRefused, Text: "?"}} },
		"a method":              func(s *Schedule) { s.Steps = []Step{{Kind: AnswersLost}} },
		"what lasts":            func(s *Schedule) { s.Steps = []Step{{Kind: Compaction, For: time.Hour}} },
		"the same thing, twice": func(s *Schedule) { s.Steps = slices.Repeat([]Step{{Kind: ServerPauses, For: time.Second}}, 2) },
	} {
		s := clone(New(7))
		if change(&s); s.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
