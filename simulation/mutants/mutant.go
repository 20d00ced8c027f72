package main

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed *.txt
var rooms embed.FS

// mutant is one protection taken out. In a room's file it reads
//
//	== verify-after-reconnect
//	row  D4
//	out  what a reconnect may have missed is not looked for
//	file internal/listwatch/core.go
//	real ./discovery TestD4_RevisionPassed
//	-	if c.checking = e.check; c.checking || c.replica.moved {
//	+	if c.checking = e.check; c.replica.moved {
//
// where real names a test of module integration, and unit one of the mutated package, or of another: "unit a/b TestY".
//
// The lines with a minus are the old text, which the file has exactly once, and those with a plus the new one. White
// space at the ends of either does not count. Where two places protect from the same, another file line, of the same
// or another file, begins another edit. Edits change what functions do, and the values of variables, and nothing else.
// A line that begins with # is a comment, and so is everything before the first mutant.
type mutant struct {
	room, name string
	row        string // of the lists of what must never go wrong
	out        string // what is taken out, for people
	tests      []test // that should notice it
	edits      []edit
}

// edit is a change of one place.
type edit struct {
	file     string // relative to the root of the repository
	old, new string
}

// id names a mutant.
func (m *mutant) id() string { return m.room + "/" + m.name }

// dir returns the directory of the mutated package.
func (m *mutant) dir() string { return filepath.Dir(m.edits[0].file) }

// load returns the mutants whose id matches, or the one that has this id.
func load(only *regexp.Regexp) ([]*mutant, error) {
	names, err := fs.Glob(rooms, "*.txt")
	if err != nil {
		return nil, err
	}
	var all []*mutant
	seen := make(map[string]bool)
	for _, name := range names {
		text, err := rooms.ReadFile(name)
		if err != nil {
			return nil, err
		}
		_, blocks, _ := strings.Cut("\n"+string(text), "\n== ")
		for block := range strings.SplitSeq(blocks, "\n== ") {
			m, err := read(strings.TrimSuffix(name, ".txt"), block)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if seen[m.id()] {
				return nil, fmt.Errorf("%s is there twice", m.id())
			}
			seen[m.id()] = true
			if m.id() == only.String() {
				return []*mutant{m}, nil
			}
			if only.MatchString(m.id()) {
				all = append(all, m)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there are no such mutants")
	}
	return all, nil
}

// read reads a mutant, of which block is the text behind "== ".
func read(room, block string) (*mutant, error) {
	name, body, _ := strings.Cut(block, "\n")
	m := &mutant{room: room, name: name}
	for line := range strings.Lines(body) {
		switch line[0] {
		case '-', '+':
			if len(m.edits) == 0 {
				return nil, fmt.Errorf("mutant %q: the file comes before what is changed in it", name)
			}
			e := &m.edits[len(m.edits)-1]
			if line[0] == '-' {
				e.old += line[1:]
			} else {
				e.new += line[1:]
			}
			continue
		case '#', '\n':
			continue
		}
		field, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch field {
		case "row":
			m.row = value
		case "out":
			m.out = value
		case "file":
			m.edits = append(m.edits, edit{file: value})
		case "real":
			pkg, name, _ := strings.Cut(value, " ")
			m.tests = append(m.tests, test{path.Join("integration", pkg), name})
		case "unit":
			dir, name, elsewhere := strings.Cut(value, " ")
			if !elsewhere {
				dir, name = "", value
			}
			m.tests = append(m.tests, test{dir, name})
		default:
			return nil, fmt.Errorf("mutant %q: the line %q begins with none of row, out, file, real, unit, - and +", name, strings.TrimSpace(line))
		}
	}
	if m.row == "" || m.out == "" || len(m.edits) == 0 {
		return nil, fmt.Errorf("mutant %q: want a row, what is taken out, and a file", name)
	}
	for i := range m.tests {
		t := &m.tests[i]
		if t.dir = cmp.Or(t.dir, m.dir()); t.name == "" {
			return nil, fmt.Errorf("mutant %q: want the name of a test in %s", name, t.dir)
		}
	}
	for i := range m.edits {
		e := &m.edits[i]
		e.old, e.new = strings.TrimSpace(e.old), strings.TrimSpace(e.new)
		if e.file == "" || e.old == "" || e.old == e.new {
			return nil, fmt.Errorf("mutant %q: want two different texts of a file", name)
		}
	}
	return m, nil
}

// apply returns the mutated files of the repository at root, by name.
func (m *mutant) apply(root string) (map[string][]byte, error) {
	mutated := make(map[string][]byte)
	for _, e := range m.edits {
		text, ok := mutated[e.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(root, e.file)); err != nil {
				return nil, fmt.Errorf("mutant %s: %w", m.id(), err)
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("mutant %s: %s has its old text %d times: want it once", m.id(), e.file, n)
		}
		mutated[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	return mutated, nil
}
