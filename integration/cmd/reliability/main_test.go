package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	got, err := os.ReadFile("../../../docs/measured/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/measured/reliability.md is not what the figures make of it: go run ./cmd/reliability in integration")
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

// TestProvedRowsHaveTests looks for each test that a row is said to be proved by.
func TestProvedRowsHaveTests(t *testing.T) {
	found := make(map[string]bool)
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			found[name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range provedRows {
		for _, name := range p.tests {
			if !found[name] {
				t.Errorf("row %s: there is no test %s", p.number, name)
			}
		}
	}
}
