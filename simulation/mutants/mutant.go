package main

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

//go:embed *.txt
var rooms embed.FS

// mutant is the removal of one protection.
type mutant struct {
	id    string // room/name
	row   string // its rows in docs/measured/reliability.md, by their codes, such as D12
	out   string // the protection, in words
	tests []test // the tests that should notice the mutant
	edits []edit
	err   error // why the mutant does not fit the code
}

// edit is a change of one place in a function.
type edit struct {
	dir      string   // the package, relative to the root of the repository
	function string   // the name of the function, or receiver.method
	op       string   // the operation: never, always, not, zero, drop or change
	kind     string   // the kind of the place, see placesAt
	words    []string // words that the head of the place must contain
	to       string   // the new text, if op is change
}

// load returns the mutants whose id matches.
func load(only *regexp.Regexp) ([]*mutant, error) {
	names, err := fs.Glob(rooms, "*.txt")
	if err != nil {
		return nil, err
	}

	var all []*mutant
	for _, name := range names {
		text, err := rooms.ReadFile(name)
		if err != nil {
			return nil, err
		}

		mutants, err := read(strings.TrimSuffix(name, ".txt"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}

		for _, m := range mutants {
			if only.MatchString(m.id) {
				all = append(all, m)
			}
		}
	}

	if len(all) == 0 {
		return nil, errors.New("no mutant matches the flag -mutant")
	}

	return all, nil
}

// read reads the mutants of a room.
func read(room, text string) (all []*mutant, err error) {
	m := new(mutant)
	var dir string // the default package of the next edits
	var in edit    // the function of the next edits

	for line := range strings.Lines(text) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)

		first, rest, two := strings.Cut(value, " ")
		if !two {
			first = ""
			rest = value
		}

		switch field {
		case "", "#":
		case "dir":
			dir = value

		case "==":
			name, row, _ := strings.Cut(value, " ")
			m = &mutant{id: room + "/" + name, row: strings.Trim(row, "[] ")}
			in = edit{}
			all = append(all, m)

		case "out":
			m.out = value
		case unit:
			m.tests = append(m.tests, test{room: unit, dir: first, name: rest})
		case etcd:
			m.tests = append(m.tests,
				test{room: etcd, dir: "integration/" + first, name: rest})
		case "in":
			in = edit{dir: cmp.Or(first, dir), function: rest}

		case "never", "always", "not", "zero", "drop", "change":
			in.op = field
			in.kind = cmp.Or(first, rest)
			in.words = strings.Fields(value)[min(1, len(value)):]
			m.edits = append(m.edits, in)

		case "to":
			if n := len(m.edits); n > 0 {
				m.edits[n-1].to = value
			}

		default:
			return nil, fmt.Errorf("mutant %s: unknown field %q", m.id, field)
		}
	}

	return all, check(all)
}

// check checks that mutants are complete, and fills in the packages of their
// tests.
func check(all []*mutant) error {
	seen := map[string]bool{}
	for _, m := range all {
		if seen[m.id] || m.row == "" || m.out == "" || len(m.edits) == 0 {
			return fmt.Errorf("mutant %s: want a unique name, a row in brackets, a line \"out\", and an edit", m.id)
		}

		seen[m.id] = true

		for i := range m.tests {
			m.tests[i].dir = cmp.Or(m.tests[i].dir, m.edits[0].dir)
		}
	}

	return nil
}
