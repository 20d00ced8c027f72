package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

var sample = results{
	{Scenario: "s", Case: "c", Peer: peerFloor, Round: 0, Values: map[string]float64{"ms": 2}},
	{Scenario: "s", Case: "c", Peer: peerOurs, Round: 0, Values: map[string]float64{"ms": 3}},
	{Scenario: "s", Case: "c", Peer: peerFloor, Round: 1, Values: map[string]float64{"ms": 4}},
	{Scenario: "s", Case: "c", Peer: peerOurs, Round: 1, Values: map[string]float64{"ms": 4}},
	{Scenario: "s", Case: "c", Peer: peerFloor, Round: 2, Values: map[string]float64{"ms": 1}},
	{Scenario: "s", Case: "c", Peer: peerOurs, Round: 2, Values: map[string]float64{"ms": 9, cutShort: 1}},
	{Scenario: "s", Case: "c", Peer: peerEtcd, Round: 0, Values: map[string]float64{"ms": never}},
}

func TestRatiosAreFormedWithinARound(t *testing.T) {
	f, ok := sample.ratio("c", peerOurs, peerFloor, "ms")
	if !ok || f.median != 1.5 || f.low != 1 || f.high != 9 || !f.cut {
		t.Errorf("ratio %+v, want 1.5 between 1 and 9, cut short", f)
	}
	if _, ok := sample.figure("c", peerGoZero, "ms"); ok {
		t.Error("there is a figure of a peer that did not run")
	}
}

func TestShow(t *testing.T) {
	for _, tt := range []struct {
		figure figure
		want   string
	}{
		{figure{median: 2, low: 1, high: 1234.5}, "2 (1 to 1234)"},
		{figure{median: 1, low: 1, high: 1}, "1"},
		{figure{median: never, low: never, high: never}, "never"},
		{figure{median: 9, low: 7, high: 9, cut: true}, "> 7"},
	} {
		if got := show(tt.figure, true); got != tt.want {
			t.Errorf("%+v shows as %q, want %q", tt.figure, got, tt.want)
		}
	}
}

func TestPlotsAreXML(t *testing.T) {
	s := &scenario{name: "s", title: "a < b & c", peers: finders, metrics: []metric{{"ms", false, true}}}
	plots := s.plotted(sample)
	if len(plots) != 1 || plots[0].file != "s-ms.svg" {
		t.Fatalf("plots %+v", plots)
	}
	for decoder := xml.NewDecoder(strings.NewReader(plots[0].svg())); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryTargetIsMeasured catches a misspelt metric or case, which would drop a target silently.
func TestEveryTargetIsMeasured(t *testing.T) {
	known, err := load(resultsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios {
		if s.extra {
			continue
		}
		if got := len(s.verdicts(known)); got != len(s.targets) {
			t.Errorf("%s: %d of %d targets have a figure", s.name, got, len(s.targets))
		}
	}
}
