package main

import (
	"fmt"
	"testing"
)

func TestSeedRepeatsThePlan(t *testing.T) {
	for seed := range uint64(20) {
		a, b := newPlan(seed), newPlan(seed)
		for n := range 20 {
			if one, two := fmt.Sprint(a.next()), fmt.Sprint(b.next()); one != two {
				t.Fatalf("seed %d, storm %d:\n%s\n%s", seed, n, one, two)
			}
		}
	}
	if fmt.Sprint(newPlan(1).next()) == fmt.Sprint(newPlan(2).next()) {
		t.Error("two seeds have the same storm")
	}
}

func TestPlanSparesServers(t *testing.T) {
	seen := map[kind]int{}
	for seed := range uint64(50) {
		p := newPlan(seed)
		for n := range 20 {
			before := p.up
			storm := p.next()
			spare := before
			for i, f := range storm {
				seen[f.kind]++
				if i > 0 && f.after < storm[i-1].after {
					t.Fatalf("seed %d, storm %d: not in the order of time: %v", seed, n, storm)
				}
				if f.kind == kill || f.kind == drain {
					if !before[f.on[0]] {
						t.Fatalf("seed %d, storm %d: %v, which does not run", seed, n, f)
					}
					spare[f.on[0]] = false
				}
			}
			left := 0
			for _, up := range spare {
				if up {
					left++
				}
			}
			if left < spared {
				t.Fatalf("seed %d, storm %d: only %d servers are left that ran before: %v", seed, n, left, storm)
			}
		}
	}
	for k := range kinds {
		if seen[k] == 0 {
			t.Errorf("no storm has the fault %q", k)
		}
	}
}
