package main

import (
	"fmt"
	"testing"
)

// TestPlan checks that a seed repeats its storms, that these have every kind of fault, and that servers are spared which ran
// before.
func TestPlan(t *testing.T) {
	seen := map[kind]int{}
	for seed := range uint64(50) {
		p, again := newPlan(seed), newPlan(seed)
		for n := range 20 {
			left := p.up
			storm := p.next()
			if one, two := fmt.Sprint(storm), fmt.Sprint(again.next()); one != two {
				t.Fatalf("seed %d, storm %d:\n%s\n%s", seed, n, one, two)
			}
			for i, f := range storm {
				seen[f.kind]++
				if i > 0 && f.after < storm[i-1].after {
					t.Fatalf("seed %d, storm %d: not in the order of time: %v", seed, n, storm)
				}
				if f.kind >= kill && left[f.on[0]] != (f.kind == kill || f.kind == drain) {
					t.Fatalf("seed %d, storm %d: %v, and it runs: %t", seed, n, f, left[f.on[0]])
				}
				if f.kind == kill || f.kind == drain {
					left[f.on[0]] = false
				}
			}
			count := 0
			for _, up := range left {
				if up {
					count++
				}
			}
			if count < spared {
				t.Fatalf("seed %d, storm %d: only %d servers are left that ran before: %v", seed, n, count, storm)
			}
		}
	}
	if len(seen) != int(kinds) {
		t.Errorf("the storms have the faults %v", seen)
	}
}
