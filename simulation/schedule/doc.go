// Package schedule is what there is in a simulated world and what happens to it, and when: drawn from a seed, printed in
// words, reduced to the faults that matter.
package schedule
