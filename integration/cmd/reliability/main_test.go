package main

import (
	"bytes"
	"os"
	"testing"
)

// The page is what the recorded figures make of it: it is not edited by hand.
func TestPageIsUpToDate(t *testing.T) {
	figures, err := load("figures.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(figures)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/reliability.md is not what the figures make of it: go run ./cmd/reliability in integration")
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   string
	}{
		{[]string{"7"}, "**7**"},
		{[]string{"0", "0"}, "**0**"},
		{[]string{"1.2s", "900ms", "30µs"}, "30µs / **900ms** / 1.2s"},
		{[]string{"10", "9", "100"}, "9 / **10** / 100"},
	} {
		if got := spread(tt.values); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.values, got, tt.want)
		}
	}
}
