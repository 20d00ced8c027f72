package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// atOnce is how many schedules one process walks.
const atOnce = 50

// probe is a test that may notice a mutant, as it runs at some time.
type probe struct {
	test
	at when
}

// notice says who noticed a mutant.
type notice struct {
	probe
	after time.Duration
	why   string
}

// outcome says who noticed a mutant, if anybody did.
type outcome struct {
	mutant *mutant
	by     *notice // nil: nobody
	err    error   // why it could not be tried
}

// probes returns what may notice a mutant, in the order in which to try: who noticed it last time; what runs on a push,
// the cheapest first; what runs by night.
func (m *mutant) probes(last *probe, seeds int) []probe {
	var own, onEtcd []test
	if last != nil {
		own = append(own, last.test)
	}
	for _, t := range m.tests {
		if t.onEtcd() {
			onEtcd = append(onEtcd, t)
		} else {
			own = append(own, t)
		}
	}
	own = append(own, test{m.dir(), ".*"}, test{m.dir(), ".*Walk.*"})
	var probes []probe
	add := func(at when, tests []test) {
		for _, t := range tests {
			probes = append(probes, probe{t, at})
		}
	}
	add(push, own)
	for first := 1; first <= seeds; first += atOnce {
		add(push, []test{{walkDir, fmt.Sprintf("TestWalk/%d-%d", first, min(first+atOnce-1, seeds))}})
	}
	add(push, onEtcd)
	add(night, own)
	add(night, onEtcd)
	if last != nil && last.at == night {
		probes = slices.Insert(probes, 1, *last)
	}
	return probes
}

// try finds out who notices a mutant. Whoever does must pass without it.
func (r *runner) try(ctx context.Context, m *mutant, last *probe, seeds int) outcome {
	for _, p := range m.probes(last, seeds) {
		got, err := r.run(ctx, p, m.id())
		if err == nil && got.failed != "" {
			p.name = got.failed
			if err = r.isSound(ctx, p); err == nil {
				return outcome{mutant: m, by: &notice{p, got.took, got.why}}
			}
		}
		if err != nil {
			return outcome{mutant: m, err: fmt.Errorf("%s: %w", m.id(), err)}
		}
	}
	return outcome{mutant: m}
}

// String returns the outcome in a line.
func (o outcome) String() string {
	switch {
	case o.err != nil:
		return fmt.Sprintf("ERROR %v", o.err)
	case o.by == nil:
		return fmt.Sprintf("%-44s NOBODY notices", o.mutant.id())
	}
	return fmt.Sprintf("%-44s %s in %s, %s, %v: %s", o.mutant.id(), o.by.name, o.by.dir, o.by.at, o.by.after.Round(time.Second/10), o.by.why)
}
