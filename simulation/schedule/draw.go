package schedule

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// warmUp is how long a world is left alone at first.
	warmUp = 3 * time.Second
	// length is the time by which all steps have begun.
	length = time.Minute
	// fewest and most bound the number of steps.
	fewest, most = 10, 18
	// shortest is the least time until a step is undone.
	shortest = 100 * time.Millisecond
	// gathering is how close steps lie that gather around a moment.
	gathering = 2 * time.Second
)

// New returns the schedule of a seed. The same seed gives the same schedule.
func New(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := Schedule{Seed: seed, Members: 1 + 2*r.IntN(2), Auth: r.IntN(3) == 0}
	for range 3 + r.IntN(2) {
		s.Servers = append(s.Servers, newServer(r))
	}
	for range 2 + r.IntN(2) {
		s.Callers = append(s.Callers, newCaller(r))
	}
	for range r.IntN(2) {
		s.Writers = append(s.Writers, Writer{pick(r, Layouts).Name})
	}
	s.Steps = draw(r, s)
	vary(rand.New(rand.NewPCG(seed, 1)), s.Steps)
	redraw(rand.New(rand.NewPCG(seed, 2)), s)
	return withOther(rand.New(rand.NewPCG(seed, 4)), enrich(rand.New(rand.NewPCG(seed, 3)), s))
}

const (
	// shortestLine and longestLine bound how far away etcd is, in milliseconds each way, where that is to be noticed.
	shortestLine, longestLine = 25, 300
	// longTTL is that of leases that outlive many faults, in seconds.
	longTTL = 15
	// longestUnready is how long servers may be unready, in milliseconds.
	longestUnready = 4000
	// mostLater is how many steps of laterKinds there are at most.
	mostLater = 3
)

// enrich gives a schedule what changes nothing else of it, at random of its own.
func enrich(r *rand.Rand, s Schedule) Schedule {
	if r.IntN(4) == 0 {
		s.Line = shortestLine + min(r.IntN(longestLine-shortestLine), r.IntN(longestLine-shortestLine))
	}
	for i := range s.Servers {
		v := &s.Servers[i]
		v.Second = r.IntN(4) == 0 && v.Mode != Register && !slices.Contains(v.Layouts, GoZero)
		v.Client = pick(r, clients)
	}
	for i := range s.Callers {
		c := &s.Callers[i]
		c.Client, c.Snapshots = pick(r, clients), r.IntN(3) > 0
		if r.IntN(3) == 0 {
			c.Own = pick(r, policies)
		}
	}
	for i := range s.Steps {
		switch step, other := &s.Steps[i], r.IntN(2) == 0; {
		case !other:
		case step.Kind == Restore:
			step.Text = Bumped
		case step.Kind == ServerPauses && s.Servers[step.Who].Mode == Register:
			step.Text = ForGood
		}
	}
	for range r.IntN(mostLater + 1) {
		step, ok := drawStep(r, s, laterKinds, []time.Duration{within(r, length-warmUp)})
		if ok && !slices.ContainsFunc(s.Steps, func(other Step) bool { return clash(s, step, other) }) {
			s.Steps = append(s.Steps, step)
		}
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	if r.IntN(4) == 0 {
		s.TTL = longTTL
	}
	s.Rests = r.IntN(6) == 0
	for i := range s.Servers {
		if v := &s.Servers[i]; v.Mode == Serve && r.IntN(3) == 0 {
			v.Unready = r.IntN(longestUnready)
		}
	}
	return s
}

// vary chooses between the forms of some kinds of steps, at random of its own, so that it changes nothing else.
func vary(r *rand.Rand, steps []Step) {
	for i := range steps {
		switch step, other := &steps[i], r.IntN(2) == 0; {
		case !other:
		case step.Kind == Restore:
			step.Text = AsNew
		case step.Kind == RequestsFail && slices.Contains(refusedWhenBusy, step.Text):
			step.N = Busy
		}
	}
}

var (
	versions = []string{"", "v1", "v2"}
	zones    = []string{"", "east", "west"}
	clients  = []Client{"", "", "", "", Wrapped, Parts}
)

func newServer(r *rand.Rand) Server {
	s := Server{
		Mode:    pick(r, []Mode{Serve, Announce, Register}),
		Layouts: pick(r, chosen),
		Version: pick(r, versions),
		Zone:    pick(r, zones),
		Weight:  uint32(r.IntN(4)),
		Newer:   r.IntN(3) == 0,
		Both:    r.IntN(3) == 0,
	}
	s.Named = s.Layouts == nil && r.IntN(2) == 0 // other layouts use the address or the lease for an id
	return s
}

func newCaller(r *rand.Rand) Caller {
	c := Caller{Zone: pick(r, zones)}
	if r.IntN(3) == 0 {
		c.Policy = pick(r, policies)
	}
	if r.IntN(4) == 0 {
		c.Subset = 1 + r.IntN(3)
	}
	return c
}

// draw draws steps that do not get in each other's way, in the order of their times.
func draw(r *rand.Rand, s Schedule) []Step {
	moments := someMoments(r)
	return drawAmong(r, s, catalog, fewest+r.IntN(most-fewest+1), moments)
}

// someMoments draws a few moments. Half of the steps gather around them, because combinations of faults find more than single
// ones.
func someMoments(r *rand.Rand) []time.Duration {
	return []time.Duration{within(r, length-warmUp), within(r, length-warmUp), within(r, length-warmUp)}
}

// drawAmong draws n steps of some kinds that do not get in each other's way, in the order of their times.
func drawAmong(r *rand.Rand, s Schedule, kinds []kind, n int, moments []time.Duration) []Step {
	var steps []Step
	for len(steps) < n {
		step, ok := drawStep(r, s, kinds, moments)
		if ok && !slices.ContainsFunc(steps, func(other Step) bool { return clash(s, step, other) }) {
			steps = append(steps, step)
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return steps
}

// drawStep draws a step. It reports false if the world has nothing for a step of the kind it drew.
func drawStep(r *rand.Rand, s Schedule, kinds []kind, moments []time.Duration) (Step, bool) {
	k := drawKind(r, kinds)
	step := Step{Kind: k.kind, At: warmUp + within(r, length-warmUp)}
	if r.IntN(2) == 0 {
		step.At = min(warmUp+pick(r, moments)+within(r, gathering), length)
	}
	if k.longest > 0 {
		// The smaller of two favours short faults: what matters happens around bounds of 1 s, 5 s and a lease.
		step.For = min(within(r, k.longest), within(r, k.longest)) + shortest
	}
	return step, k.choose(r, s, &step)
}

// drawKind draws one of some kinds, each as often as its share says.
func drawKind(r *rand.Rand, kinds []kind) kind {
	var total int
	for _, k := range kinds {
		total += k.share
	}
	left := r.IntN(total)
	for _, k := range kinds {
		if left -= k.share; left < 0 {
			return k
		}
	}
	panic("more was drawn than there is")
}

// within draws a time of less than d, in milliseconds.
func within(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

func pick[E any](r *rand.Rand, from []E) E { return from[r.IntN(len(from))] }
