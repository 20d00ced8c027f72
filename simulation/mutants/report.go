package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// String returns the outcome in a line.
func (o outcome) String() string {
	switch {
	case o.err != nil:
		return fmt.Sprintf("%-44s ERROR: %v", o.mutant.id(), o.err)
	case o.by == "":
		return fmt.Sprintf("%-44s %s", o.mutant.id(), strings.Join(compact("NOBODY notices", o.real), "; "))
	}
	return fmt.Sprintf("%-44s %s, %s: %s", o.mutant.id(), o.by,
		strings.Join(compact(o.seedText(), o.after.Round(time.Second).String(), o.real), ", "), o.why)
}

func (o outcome) seedText() string {
	if o.seed == 0 {
		return ""
	}
	return fmt.Sprintf("seed %d", o.seed)
}

// compact returns the texts that are not empty.
func compact(texts ...string) []string {
	var kept []string
	for _, text := range texts {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return kept
}

// report writes the table, and returns an error if the outcomes are not as they should be.
func report(outcomes []outcome, o options) error {
	var errs []error
	unnoticed := 0
	var noticed [notices]int
	for _, x := range outcomes {
		switch {
		case x.err != nil:
			errs = append(errs, x.err)
		case x.by == "":
			unnoticed++
		default:
			noticed[x.kind]++
		}
	}
	if o.build {
		fmt.Printf("%d mutants, of which %d compile\n", len(outcomes), len(outcomes)-len(errs))
		return errors.Join(errs...)
	}
	sum := fmt.Sprintf("%d mutants: schedules notice %d, walks of cores %d more, tests on real etcd %d, other tests %d, nobody %d",
		len(outcomes), noticed[bySchedule], noticed[byWalk], noticed[byReal], noticed[byUnit], unnoticed)
	fmt.Println(sum)
	if unnoticed > 0 {
		errs = append(errs, fmt.Errorf("nobody notices %d mutants", unnoticed))
	}
	if o.write != "" {
		errs = append(errs, os.WriteFile(o.write, []byte(fmt.Sprintf(intro, o.seeds, o.budget, sum)+table(outcomes)), 0o644))
	}
	return errors.Join(errs...)
}

// intro is what the page says before its table.
const intro = `# Protections taken out

` + "`go run ./mutants`" + ` in [simulation](../../simulation) takes protections out of the code, one at a time, and shows which test
notices. Each is a mutant: a change of a few lines that somebody might make by mistake, such as a condition that is lost,
a write without its guard, or a bound that is lifted. They stand in [simulation/mutants](../../simulation/mutants), a file for each
part of the code, and a test sees to it that they fit the code as it is.

For each mutant these are tried, until one notices:

1. schedules of the [simulation](reliability.md#simulation): the first %d seeds at the most, and for %v at the most;
2. the walk of the core that is mutated, through every sequence of events up to a depth;
3. the test on real etcd that the mutant names;
4. the test of the mutated package that it names.

A test counts if it passes without any mutant, and a schedule by the same seed. The rows are those of [reliability](reliability.md). How long
it took is counted from the start of the tests that noticed, and includes building them for all but schedules.

%s.

`

// table returns the outcomes in Markdown.
func table(outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("| mutant | row | what is taken out | noticed by | after |\n|---|---|---|---|---|\n")
	for _, o := range outcomes {
		after := "–"
		if o.by != "" {
			after = fmt.Sprintf("%.0f s", o.after.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", o.mutant.id(), o.mutant.row, o.mutant.out, o.byText(), after)
	}
	return b.String()
}

// byText returns what noticed the mutant, in Markdown.
func (o outcome) byText() string {
	switch {
	case o.err != nil:
		return "not tried"
	case o.by == "":
		return "nobody"
	case o.kind == bySchedule:
		return fmt.Sprintf("schedule %d", o.seed)
	case o.kind == byReal:
		return fmt.Sprintf("`%s` on etcd", o.by)
	case o.kind == byUnit:
		return fmt.Sprintf("`%s`", o.by)
	}
	return o.by
}
