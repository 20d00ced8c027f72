package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"strings"
	"text/template"
	"time"
)

//go:embed page.md.tmpl
var pageText string

var page = template.Must(template.New("").Parse(pageText))

// kinds are the kinds of tests, for the page.
var kinds = []string{"walks of cores", "other tests of the mutated package", "schedules in virtual time", "tests on real etcd"}

// kind returns the kind of a test, of which a mutant says what is its own package.
func (t test) kind() int {
	switch {
	case t.dir == walkDir:
		return 2
	case t.isWalk():
		return 0
	case t.onEtcd():
		return 3
	}
	return 1
}

// writePage writes the page of a run of all mutants.
func writePage(file string, outcomes []outcome, seeds int, took time.Duration) error {
	type count struct {
		Kind        string
		Push, Night int
	}
	counts := make([]count, len(kinds))
	total := count{Kind: "all"}
	var rows strings.Builder
	for _, o := range outcomes {
		by := "nobody | | |"
		if o.by != nil {
			by = fmt.Sprintf("`%s` | %s | %s | %.1f s", o.by.name, o.by.dir, o.by.at, o.by.after.Seconds())
			c := &counts[o.by.kind()]
			if c.Kind = kinds[o.by.kind()]; o.by.at == push {
				c.Push++
				total.Push++
			} else {
				c.Night++
				total.Night++
			}
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", o.mutant.id(), o.mutant.row, o.mutant.out, by)
	}
	var text bytes.Buffer
	err := page.Execute(&text, map[string]any{
		"Mutants": len(outcomes), "Noticed": total.Push + total.Night, "Counts": counts, "Total": total,
		"Seeds": seeds, "Rows": rows.String(), "Day": time.Now().Format(time.DateOnly), "Minutes": fmt.Sprintf("%.0f", took.Minutes()),
		"Machine": fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

var row = regexp.MustCompile("(?m)^\\| (\\S+) \\|.*\\| `(\\S+)` \\| (\\S+) \\| (push|night) \\|")

// readPage returns what the page says of who noticed each mutant.
func readPage(file string) (map[string]*probe, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	last := make(map[string]*probe)
	for _, cells := range row.FindAllStringSubmatch(string(text), -1) {
		last[cells[1]] = &probe{test{cells[3], cells[2]}, when(cells[4])}
	}
	return last, nil
}
