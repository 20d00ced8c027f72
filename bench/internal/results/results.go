// Package results holds what the runs of the scenarios have measured: the lines of a file, and the
// figures and ratios that are made of them.
package results

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// A Run is what one run of one peer has measured.
type Run struct {
	Scenario string             `json:"scenario"`
	Case     string             `json:"case,omitempty"`
	Peer     string             `json:"peer"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
	At       time.Time          `json:"at"`
	Machine  string             `json:"-"` // "" is not known; the file names it once a scenario
}

const (
	// Never stands for a time that did not come within the scenario's bound.
	Never = 1e9
	// CutShort marks a run that was not over when its time was: its values are lower bounds.
	CutShort = "cut short"
)

// place is the line before the runs of a scenario, all of which were made on one machine.
type place struct {
	Scenario string `json:"scenario"`
	Machine  string `json:"machine"`
}

// Set is the last runs of each scenario, in the order in which they ended.
type Set []Run

// Load reads a file. One that does not exist has no runs.
func Load(path string) (Set, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(raw)
}

func parse(raw []byte) (Set, error) {
	var set Set
	machines := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		var line struct {
			Run
			Machine string `json:"machine"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if line.Machine != "" {
			machines[line.Scenario] = line.Machine
			continue
		}
		line.Run.Machine = machines[line.Scenario]
		set = append(set, line.Run)
	}
	return set, lines.Err()
}

// Save writes the file that Load reads.
func (s Set) Save(path string) error {
	text, err := s.text()
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

func (s Set) text() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	named := make(map[string]bool)
	for _, r := range s {
		if r.Machine != "" && !named[r.Scenario] {
			named[r.Scenario] = true
			if err := encoder.Encode(place{r.Scenario, r.Machine}); err != nil {
				return nil, err
			}
		}
		if err := encoder.Encode(r); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// With returns the set with the runs of one scenario replaced.
func (s Set) With(scenario string, runs Set) Set {
	kept := slices.DeleteFunc(slices.Clone(s), func(r Run) bool { return r.Scenario == scenario })
	return append(kept, runs...)
}

// Of returns the runs of one scenario.
func (s Set) Of(scenario string) Set {
	return slices.DeleteFunc(slices.Clone(s), func(r Run) bool { return r.Scenario != scenario })
}

// Cases returns the cases in the order in which they ran.
func (s Set) Cases() []string {
	var cases []string
	for _, r := range s {
		if !slices.Contains(cases, r.Case) {
			cases = append(cases, r.Case)
		}
	}
	return cases
}
