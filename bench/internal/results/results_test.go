package results

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// runs makes a peer's runs, one a round.
func runs(peer string, values ...float64) Set {
	var set Set
	for round, v := range values {
		set = append(set, Run{Scenario: "s", Case: "c", Peer: peer, Round: round, Values: map[string]float64{"ms": v}})
	}
	return set
}

func TestFigure(t *testing.T) {
	for _, tt := range []struct {
		name              string
		values            []float64
		median, low, high float64
		interval          bool
	}{
		{"five runs: from the least to the greatest", []float64{5, 1, 4, 2, 3}, 3, 1, 5, true},
		{"eight runs: without the least and the greatest", []float64{8, 1, 7, 2, 6, 3, 5, 4}, 4.5, 2, 7, true},
		{"four runs are too few", []float64{4, 1, 3, 2}, 2.5, 0, 0, false},
		{"one run", []float64{7}, 7, 0, 0, false},
		{"never in one of five", []float64{1, 2, Never, 3, 4}, 3, 1, Never, true},
		{"never in three of five", []float64{1, Never, Never, Never, 4}, Never, 1, Never, true},
		{"never in half", []float64{1, 2, Never, Never}, Never, 0, 0, false},
	} {
		f, ok := runs("a", tt.values...).Figure("c", "a", "ms")
		if !ok || f.Median != tt.median || f.Runs != len(tt.values) || f.Bound {
			t.Errorf("%s: %+v, want the median %v", tt.name, f, tt.median)
		}
		if tt.interval && (f.Low != tt.low || f.High != tt.high || f.NoInterval != nil) {
			t.Errorf("%s: %+v, want the interval from %v to %v", tt.name, f, tt.low, tt.high)
		}
		if !tt.interval && (f.NoInterval == nil) {
			t.Errorf("%s: %+v has an interval", tt.name, f)
		}
	}
	if _, ok := runs("a", 1).Figure("c", "b", "ms"); ok {
		t.Error("there is a figure of a peer that did not run")
	}
}

func TestRatio(t *testing.T) {
	cut := runs("a", 4, 9)
	cut[1].Values[CutShort] = 1
	for _, tt := range []struct {
		name       string
		own, other Set
		median     float64
		runs       int
		bound      bool
	}{
		{"within a round", runs("a", 3, 4, 9), runs("b", 2, 4, 1), 1.5, 3, false},
		{"without a round that the other lacks", runs("a", 4, 100), runs("b", 2), 2, 1, false},
		{"without a round in which the other has nothing", runs("a", 4, 100), runs("b", 2, 0), 2, 1, false},
		{"without a round in which both got nowhere", runs("a", 4, Never), runs("b", 2, Never), 2, 1, false},
		{"nothing beside never", runs("a", 4), runs("b", Never), 0, 1, false},
		{"never stays never", runs("a", Never), runs("b", 2), Never, 1, false},
		{"over what was cut short: unknown", runs("b", 1, 1), cut, 0.25, 1, false},
		{"of what was cut short: a bound", cut, runs("b", 1, 1), 6.5, 2, true},
	} {
		f, ok := append(tt.own, tt.other...).Ratio("c", tt.own[0].Peer, tt.other[0].Peer, "ms")
		if !ok || f.Median != tt.median || f.Runs != tt.runs || f.Bound != tt.bound {
			t.Errorf("%s: %+v, want %v of %d runs, a bound: %v", tt.name, f, tt.median, tt.runs, tt.bound)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    Figure
		want bool
	}{
		{"an interval", Figure{Median: 2, Low: 1, High: 3}, true},
		{"the same in all runs", Figure{Median: 2, Low: 2, High: 2}, false},
		{"cut short", Figure{Median: 2, Low: 1, High: 3, Bound: true}, false},
		{"too few runs", Figure{Median: 2, Low: 1, High: 3, NoInterval: errors.New("too few")}, false},
	} {
		if _, _, got := tt.f.Spread(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestFileKeepsAll(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Set{
		{Scenario: "old", Peer: "a", Values: map[string]float64{"ms": 1}, At: at},
		{Scenario: "new", Case: "c", Peer: "a", Values: map[string]float64{"ms": Never}, At: at, Machine: "m"},
		{Scenario: "new", Case: "c", Peer: "a", Round: 1, Values: map[string]float64{"ms": 2}, At: at, Machine: "m"},
	}
	text, err := want.text()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\n"); got != 4 {
		t.Errorf("%d lines, want one a run and one for the machine:\n%s", got, text)
	}
	got, err := parse(text)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	if _, err := parse([]byte("{}\nno\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v, want one that names the line", err)
	}
}

func TestWithReplacesAScenario(t *testing.T) {
	old := append(runs("a", 1, 2), Run{Scenario: "other"})
	got := old.With("s", runs("b", 3))
	if len(got) != 2 || got[0].Scenario != "other" || got[1].Peer != "b" {
		t.Errorf("%+v", got)
	}
	if len(got.Of("s")) != 1 || !reflect.DeepEqual(got.Of("s").Cases(), []string{"c"}) {
		t.Errorf("of s: %+v", got.Of("s"))
	}
}
