package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"
)

// resultsFile holds the last run of each scenario, one line for each run of each peer.
const resultsFile = "results.jsonl"

const (
	// never stands for a time that did not come within the scenario's bound.
	never = 1e9
	// cutShort marks a run that was not over when its time was: its figures are lower bounds.
	cutShort = "cut short"
)

// result is what one run of one peer has measured.
type result struct {
	Scenario string             `json:"scenario"`
	Case     string             `json:"case,omitempty"`
	Peer     string             `json:"peer"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
	At       time.Time          `json:"at"`
}

type results []result

func load(path string) (results, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all results
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

func (rs results) save(path string) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	for _, r := range rs {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// with returns the results with those of one scenario replaced.
func (rs results) with(scenario string, runs []result) results {
	return append(rs.without(scenario), runs...)
}

func (rs results) without(scenario string) results {
	return slices.DeleteFunc(slices.Clone(rs), func(r result) bool { return r.Scenario == scenario })
}

func (rs results) of(scenario string) results {
	return slices.DeleteFunc(slices.Clone(rs), func(r result) bool { return r.Scenario != scenario })
}

// cases and peers are in the order in which they ran.
func (rs results) cases() []string { return distinct(rs, func(r result) string { return r.Case }) }

func distinct(rs results, name func(result) string) []string {
	var names []string
	for _, r := range rs {
		if n := name(r); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// figure is a measurement over all rounds.
type figure struct {
	median, low, high float64
	cut               bool // it is a lower bound
}

// figure returns a peer's, and ok false where it has none.
func (rs results) figure(c, peer, metric string) (f figure, ok bool) {
	values, cut := rs.values(c, peer, metric)
	return figureOf(values, cut)
}

// ratio returns a peer's figure over that of base, round by round.
func (rs results) ratio(c, peer, base, metric string) (f figure, ok bool) {
	own, cut := rs.values(c, peer, metric)
	other, _ := rs.values(c, base, metric)
	var ratios []float64
	for round, value := range own {
		if divisor, ok := other[round]; ok && divisor != 0 {
			ratios = append(ratios, value/divisor)
		}
	}
	byRound := make(map[int]float64, len(ratios))
	for i, r := range ratios {
		byRound[i] = r
	}
	return figureOf(byRound, cut)
}

func (rs results) values(c, peer, metric string) (byRound map[int]float64, cut bool) {
	byRound = make(map[int]float64)
	for _, r := range rs {
		if r.Case != c || r.Peer != peer {
			continue
		}
		if value, ok := r.Values[metric]; ok {
			byRound[r.Round] = value
			cut = cut || r.Values[cutShort] != 0
		}
	}
	return byRound, cut
}

func figureOf(byRound map[int]float64, cut bool) (figure, bool) {
	values := make([]float64, 0, len(byRound))
	for _, value := range byRound {
		values = append(values, value)
	}
	if len(values) == 0 {
		return figure{}, false
	}
	return figure{median(values), slices.Min(values), slices.Max(values), cut}, true
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
