package main

import (
	"cmp"
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
		errs = append(errs, os.WriteFile(o.write, []byte(sum+".\n\n"+table(outcomes)), 0o644))
	}
	return errors.Join(errs...)
}

// table returns the outcomes in Markdown.
func table(outcomes []outcome) string {
	var b strings.Builder
	b.WriteString("| mutant | row | what is taken out | noticed by | seed | after |\n|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		by, seed, after := cmp.Or(o.by, "nobody"), "–", "–"
		if o.err != nil {
			by = "not tried"
		}
		if o.seed != 0 {
			seed = fmt.Sprint(o.seed)
		}
		if o.by != "" {
			after = fmt.Sprintf("%.1f s", o.after.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", o.mutant.id(), o.mutant.row, o.mutant.out, by, seed, after)
	}
	return b.String()
}
