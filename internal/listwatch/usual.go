package listwatch

import (
	"slices"
	"time"
)

// fewCosts is how many costs are too few to tell what is usual: while a process starts, everything waits for a processor.
const fewCosts = 4

// Usual corrects costs that are measured by the clock, which include whatever else the machine did
// meanwhile. The zero value knows of none yet. It must not be used concurrently.
type Usual struct {
	costs [8]time.Duration // the last ones
	n     int              // costs added
}

// Believe takes a cost in, and returns how much of it to believe: twice what is usual at the most, and
// nothing while that is not known.
func (u *Usual) Believe(cost time.Duration) time.Duration {
	believed := min(cost, 2*u.median())
	u.costs[u.n%len(u.costs)] = cost
	u.n++
	return believed
}

// median returns the usual cost, 0 while too few are known.
func (u *Usual) median() time.Duration {
	if u.n < fewCosts {
		return 0
	}
	costs := u.costs
	known := costs[:min(u.n, len(costs))]
	slices.Sort(known)
	return known[(len(known)-1)/2]
}
