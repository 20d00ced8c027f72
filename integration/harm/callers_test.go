package harm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// maxAlone is how many rows run again: where more are worse off, it is not for want of processors.
const maxAlone = 25

// TestCallers runs two clients in each environment of the table: ours, and gRPC's own policy by a manual resolver. Many rows run
// at once. One in which ours seems worse off runs again, alone, and fails if it is worse off there, too: by the first run, and
// by the sum of two.
func TestCallers(t *testing.T) {
	rows := callerRows()
	var table results
	crowd := newCrowd()
	t.Run("beside", func(t *testing.T) {
		for _, r := range rows {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				crowd.enter()
				spare := false
				defer func() { crowd.leave(spare) }()
				spare = table.add(t, r)
			})
		}
	})
	alone := 0
	t.Run("alone", func(t *testing.T) {
		for _, r := range rows {
			first, ran := table.of[r.name]
			if !ran || r.asked != "" || len(first.in) == 0 {
				continue
			}
			t.Run(r.name, func(t *testing.T) {
				if alone++; alone <= maxAlone {
					delete(table.of, r.name)
					if table.add(t, r); len(table.of[r.name].in) > 0 {
						table.add(t, r)
					}
				}
				if now := table.of[r.name]; len(now.in) > 0 {
					t.Errorf("ours %s\nours:  %v%s\ngRPC's: %v%s\nthe log has %d lines", strings.Join(now.in, ", and "),
						&now.us, now.us.why(), &now.them, now.them.why(), now.log)
				}
			})
		}
	})
	var text strings.Builder
	for _, r := range rows {
		if now, ran := table.of[r.name]; ran {
			verdict := "as good"
			switch {
			case r.asked != "":
				verdict = "asked"
			case len(now.in) > 0:
				verdict = "WORSE"
			}
			fmt.Fprintf(&text, "%-75s ours %v | gRPC's %v | log %d | %s\n", r.name, &now.us, &now.them, now.log, verdict)
		}
	}
	t.Logf("%d environments, %d of them again, alone:\n%s", len(table.of), alone, text.String())
}

// results are what the clients have counted in all runs of each row.
type results struct {
	mu   sync.Mutex
	runs int64
	of   map[string]*result
}

type result struct {
	us, them tally
	log      int      // lines that our registry has logged
	in       []string // in what ours is worse off
}

// add runs a row and adds its counts. It reports whether the machine had time to spare.
func (s *results) add(t *testing.T, r row) (spare bool) {
	s.mu.Lock()
	s.runs++
	run := s.runs
	s.mu.Unlock()
	w := runRow(t, r, run)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[string]*result)
	}
	if s.of[r.name] == nil {
		s.of[r.name] = &result{}
	}
	now := s.of[r.name]
	now.us.add(&w.us.tally)
	now.them.add(&w.them.tally)
	now.log += len(w.logs.Lines())
	now.in = worse(&now.us, &now.them, w.oneIn())
	return w.us.samples > int(w.lasts/sampling)*3/4
}

// crowd lets as many rows run at once as the machine has time for: in rows that starve, clients make too few calls to judge.
type crowd struct {
	mu             sync.Mutex
	left           *sync.Cond
	limit, running int
}

func newCrowd() *crowd {
	c := &crowd{limit: 4}
	c.left = sync.NewCond(&c.mu)
	return c
}

func (c *crowd) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running >= c.limit {
		c.left.Wait()
	}
	c.running++
}

func (c *crowd) leave(spare bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if spare {
		c.limit = min(c.limit+1, parallel)
	} else {
		c.limit = max(c.limit-1, 4)
	}
	c.left.Broadcast()
}

// What a user asked for stands on a page.
func TestCallers_AskedForOnAPage(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range callerRows() {
		if seen[r.name] {
			t.Errorf("two rows have the name %q", r.name)
		}
		seen[r.name] = true
		if r.asked == "" {
			continue
		}
		at, reason, _ := strings.Cut(r.asked, ": ")
		page, section, _ := strings.Cut(at, "#")
		text, err := os.ReadFile(filepath.Join("../..", page))
		must(t, err)
		heading := regexp.MustCompile(`(?mi)^#+ ` + strings.ReplaceAll(regexp.QuoteMeta(section), "-", "[ -]") + `$`)
		if reason == "" || !heading.Match(text) {
			t.Errorf("%s: no section and reason: %q", r.name, r.asked)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d environments, want 60", len(seen))
	}
}
