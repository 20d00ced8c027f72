package main

import (
	"context"
	"errors"
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
	err    error   // why some tests did not count
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
	add(push, onEtcd)
	for first := 1; first <= seeds; first += atOnce {
		add(push, []test{{walkDir, fmt.Sprintf("TestWalk/%d-%d", first, min(first+atOnce-1, seeds))}})
	}
	add(night, own)
	add(night, onEtcd)
	if last != nil && last.at == night {
		probes = slices.Insert(probes, 1, *last)
	}
	return probes
}

// try finds out who notices a mutant. Whoever does must do so alone, rather than by chance among many, and must pass
// without the mutant.
func (r *runner) try(ctx context.Context, m *mutant, last *probe, seeds int) outcome {
	o := outcome{mutant: m}
	for _, p := range m.probes(last, seeds) {
		got, err := r.run(ctx, p, m.id())
		if err == nil && got.failed != "" && got.failed != p.name {
			p.name = got.failed
			got, err = r.run(ctx, p, m.id())
		}
		if err != nil {
			o.err = err
			return o
		}
		if got.failed == "" {
			continue
		}
		if err := r.isSound(ctx, p); err != nil {
			o.err = errors.Join(o.err, err) // another may notice all the same
			continue
		}
		return outcome{mutant: m, by: &notice{p, got.took, got.why}}
	}
	return o
}

// String returns the outcome in a line.
func (o outcome) String() string {
	if o.by == nil {
		return fmt.Sprintf("%-44s NOBODY notices", o.mutant.id())
	}
	return fmt.Sprintf("%-44s %s in %s, %s, %v: %s", o.mutant.id(), o.by.name, o.by.dir, o.by.at, o.by.after.Round(time.Second/10), o.by.why)
}
