package report

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

func TestJudge(t *testing.T) {
	atMost, ahead := Target{Limit: 2}, Target{Ahead: true}
	const less, more = false, true
	for _, tt := range []struct {
		name   string
		target Target
		more   bool
		figure results.Figure
		want   Outcome
	}{
		{"at most: all below", atMost, less, results.Figure{Median: 1.5, Low: 1, High: 2}, Reached},
		{"at most: the high end above", atMost, less, results.Figure{Median: 1.5, Low: 1, High: 2.1}, ReachedInNoise},
		{"at most: the low end below", atMost, less, results.Figure{Median: 2.1, Low: 2, High: 3}, NotReachedInNoise},
		{"at most: all above", atMost, less, results.Figure{Median: 3, Low: 2.1, High: 4}, NotReached},
		{"at most: the same in all runs", atMost, less, results.Figure{Median: 2, Low: 2, High: 2}, Reached},
		{"at most: never", atMost, less, results.Figure{Median: results.Never, Low: results.Never, High: results.Never}, NotReached},
		{"at most: never in some runs", atMost, less, results.Figure{Median: 1, Low: 1, High: results.Never}, ReachedInNoise},
		{"at most: too few runs", atMost, less, results.Figure{Median: 1, NoInterval: errors.New("few")}, ReachedBlindly},
		{"at most: too few runs, above", atMost, less, results.Figure{Median: 3, NoInterval: errors.New("few")}, NotReachedBlindly},
		{"at most: cut short below", atMost, less, results.Figure{Median: 1, Low: 1, High: 1, Bound: true}, Undecided},
		{"at most: cut short above", atMost, less, results.Figure{Median: 3, Low: 1, High: 4, Bound: true}, NotReached},
		{"at least: all above", atMost, more, results.Figure{Median: 3, Low: 2, High: 4}, Reached},
		{"at least: the low end below", atMost, more, results.Figure{Median: 3, Low: 1.9, High: 4}, ReachedInNoise},
		{"at least: all below", atMost, more, results.Figure{Median: 1, Low: 1, High: 1.9}, NotReached},
		{"at least: cut short above", atMost, more, results.Figure{Median: 3, Bound: true}, Reached},
		{"at least: cut short below", atMost, more, results.Figure{Median: 1, Bound: true}, Undecided},
		{"ahead: less", ahead, less, results.Figure{Median: 0.8, Low: 0.7, High: 0.9}, Reached},
		{"ahead: as good is not ahead", ahead, less, results.Figure{Median: 1, Low: 1, High: 1}, NotReached},
		{"ahead: not always", ahead, less, results.Figure{Median: 0.8, Low: 0.7, High: 1}, ReachedInNoise},
		{"ahead: more", ahead, more, results.Figure{Median: 1.2, Low: 1.1, High: 1.3}, Reached},
		{"ahead: more is wanted", ahead, more, results.Figure{Median: 0.8, Low: 0.7, High: 0.9}, NotReached},
	} {
		if got := tt.target.judge(tt.figure, tt.more); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// measure makes five runs of each peer that all gave the same.
func measure(values map[string]map[string]float64) results.Set {
	var set results.Set
	for peer, metrics := range values {
		for round := range 5 {
			set = append(set, results.Run{Scenario: "s", Case: "c", Peer: peer, Round: round, Values: metrics})
		}
	}
	return set
}

func TestVerdicts(t *testing.T) {
	s := &Scenario{
		Name: "s", Title: "a title, of 2", Base: "floor", Peers: []string{"floor", Ours, "a", "b"},
		Metrics: []Metric{{Name: "ms"}, {Name: "calls", More: true}, {Name: "lost"}},
	}
	set := measure(map[string]map[string]float64{
		"floor": {"ms": 1, "calls": 200}, Ours: {"ms": 2, "calls": 100, "lost": 1}, "a": {"ms": 4, "calls": 90, "lost": 0}, "b": {"ms": 1.6, "calls": 80},
	})
	rivals := []string{"a", "b"}
	for _, tt := range []struct {
		target Target
		want   string
	}{
		{Target{Case: "c", Metric: "ms", Limit: 2}, "c: ms, at most 2 | reached: 2"},
		{Target{Case: "c", Metric: "calls", Limit: 99}, "c: calls, at least 99 | reached: 100"},
		{Target{Case: "c", Metric: "calls", Limit: 0.95, Of: []string{"floor"}}, "c: calls, at least 0.95 of floor | [not reached](#a-title-of-2): 0.50"},
		{Target{Case: "c", Metric: "ms", Limit: 3, Of: []string{"floor"}}, "c: ms, at most 3 of floor | reached: 2"},
		{Target{Case: "c", Metric: "ms", Limit: 1.1, Of: rivals}, "c: ms, at most 1.1 of the best peer, b | [not reached](#a-title-of-2): 1.25"},
		{Target{Case: "c", Metric: "calls", Limit: 1.1, Of: rivals}, "c: calls, at least 1.1 of the best peer, a | reached: 1.11"},
		{Target{Case: "c", Metric: "ms", Ahead: true, Of: []string{"a"}}, "c: ms, ahead of a | reached: 0.50"},
		{Target{Case: "c", Metric: "ms", Ahead: true, Of: rivals, Reason: "b cheats"}, "c: ms, ahead of the best peer, b | [not reached](#a-title-of-2): 1.25; b cheats"},
		{Target{Case: "c", Metric: "ms", Limit: 1.2502, Of: []string{"b"}}, "c: ms, at most 1.25 of b | reached: 1.25"},
		{Target{Case: "c", Metric: "calls", Limit: 1.111, Of: []string{"a"}}, "c: calls, at least 1.111 of a | reached: 1.111"},
		{Target{Case: "*", Metric: "ms", Limit: 2}, "c: ms, at most 2 | reached: 2"},
		{Target{Case: "c", Metric: "lost", Limit: 2}, "c: lost, at most 2 | reached: 1"},
		{Target{Case: "c", Metric: "lost", Limit: 2, Of: []string{"a"}}, "c: lost, at most 2 of a | not known, for there is nothing to compare with"},
		{Target{Case: "other", Metric: "ms", Limit: 2}, "other: ms, at most 2 | not measured"},
		{Target{Case: "other", Metric: "ms", Limit: 2, Of: rivals}, "other: ms, at most 2 of the best of a, b | not measured"},
	} {
		s.Targets = []Target{tt.target}
		for _, v := range s.Verdicts(set) {
			if got := v.Target + " | " + v.markdown(); got != tt.want {
				t.Errorf("%+v:\n got %s\nwant %s", tt.target, got, tt.want)
			}
		}
	}
}

func TestEveryTargetHasAVerdict(t *testing.T) {
	s := &Scenario{Name: "s", Title: "title", Peers: []string{Ours}, Metrics: []Metric{{Name: "ms"}}, Targets: []Target{
		{Metric: "ms", Limit: 1}, {Case: "*", Metric: "ms", Limit: 1},
	}}
	want := `| scenario | target |  |
| --- | --- | --- |
| title | ms, at most 1 | not measured |
|  | every case: ms, at most 1 | not measured |`
	if got := targets([]*Scenario{s}, nil, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCheck(t *testing.T) {
	base := Scenario{Name: "s", Peers: []string{Ours}, Metrics: []Metric{{Name: "ms"}}}
	for _, tt := range []struct {
		edit func(*Scenario)
		want string
	}{
		{func(s *Scenario) { s.Base = "nobody" }, `the base "nobody"`},
		{func(s *Scenario) { s.Targets = []Target{{Metric: "sm"}} }, `a target of "sm"`},
		{func(s *Scenario) { s.Targets = []Target{{Metric: "ms", Of: []string{"nobody"}}} }, `beside "nobody"`},
		{func(s *Scenario) { s.Targets = []Target{{Metric: "ms", Ahead: true}} }, "ahead of nobody"},
	} {
		s := base
		tt.edit(&s)
		if err := s.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want one of %s", err, tt.want)
		}
	}
}
