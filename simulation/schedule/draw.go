package schedule

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const (
	// warmUp is the time before the first step.
	warmUp = 3 * time.Second

	// length bounds the start of the last step.
	length = time.Minute

	// fewest and most bound the number of steps.
	fewest, most = 10, 16

	// shortest is the minimum duration of a step.
	shortest = 100 * time.Millisecond

	// gathering bounds the time between a moment and a step that is drawn close
	// to it.
	gathering = 2 * time.Second
)

// New returns the schedule of a seed. The same seed gives the same schedule.
func New(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := Schedule{Seed: seed, Members: 1, Auth: oneIn(r, 8)}

	if oneIn(r, 8) {
		s.Members = 3
	}

	if oneIn(r, 4) {
		const spread = longestLine - shortestLine
		s.Line = shortestLine + min(r.IntN(spread), r.IntN(spread))
	}

	if oneIn(r, 4) {
		s.TTL = longTTL
	}

	for range 3 + r.IntN(2) {
		s.Servers = append(s.Servers, newServer(r))
	}

	for range 2 + r.IntN(4)/3 {
		s.Callers = append(s.Callers, newCaller(r))
	}

	for range r.IntN(2) {
		s.Writers = append(s.Writers, Writer{pick(r, endpoint.Layouts()).String()})
	}

	if oneIn(r, 5) {
		other := Schedule{Seed: seed, Away: true, Members: 1}
		for range 1 + r.IntN(2) {
			other.Servers = append(other.Servers, newServer(r))
		}

		other.Steps = draw(r, other, r.IntN(mostAway+1))
		s.Other = &other
	}

	s.Steps = draw(r, s, fewest+r.IntN(most-fewest+1))

	return s
}

const (
	// shortestLine and longestLine bound the delay of a distant etcd, in
	// milliseconds each way.
	shortestLine, longestLine = 25, 300

	// longTTL is the TTL, in seconds, of leases that outlive many faults.
	longTTL = 15

	// longestUnready bounds the unready time of servers, in milliseconds.
	longestUnready = 4000

	// mostAway bounds the number of steps in the other region.
	mostAway = 4
)

var (
	versions = []string{"", "v1", "v2"}
	zones    = []string{"", "east", "west"}
)

func newServer(r *rand.Rand) Server {
	s := Server{
		Mode:    pick(r, []Mode{Serve, Announce, Register}),
		Layouts: pick(r, chosen),
		Version: pick(r, versions),
		Zone:    pick(r, zones),
		Weight:  uint32(r.IntN(4)),
		Newer:   oneIn(r, 3),
		Both:    oneIn(r, 3),
		Parts:   oneIn(r, 6),
	}

	// in other layouts the id is the address or the lease
	s.Named = s.Layouts == nil && oneIn(r, 2)
	leased := slices.ContainsFunc(s.Layouts, func(name string) bool {
		return LayoutNamed(name).LeaseInKey()
	})
	s.Second = s.Mode != Register && !leased && oneIn(r, 4)

	if s.Mode == Serve && oneIn(r, 3) {
		s.Unready = r.IntN(longestUnready)
	}

	return s
}

func newCaller(r *rand.Rand) Caller {
	c := Caller{Zone: pick(r, zones), Parts: oneIn(r, 6), Snapshots: !oneIn(r, 3)}

	switch r.IntN(4) {
	case 0:
		c.Policy = pick(r, policies)
	case 1, 2:
		c.Policy = drawPolicy(r, "")
	}

	if oneIn(r, 3) {
		c.Own = pick(r, policies)

		// the checks support no overlay except the live config
		if !strings.Contains(c.Own, "childPolicy") {
			c.Own = strings.Replace(c.Own, `{"etcd":{`,
				`{"etcd":{"childPolicy":[{"round_robin":{}}],`, 1)
		}
	}

	if oneIn(r, 4) {
		c.Subset = 1 + r.IntN(3)
	}

	return c
}

// draw draws n steps, in the order of their times. Half of them are close to a
// few moments, because combined faults find more defects than single ones.
func draw(r *rand.Rand, s Schedule, n int) []Step {
	var moments []time.Duration
	for range 3 {
		moments = append(moments, within(r, length-warmUp))
	}

	var steps []Step
	for len(steps) < n {
		if step, ok := drawStep(r, s, moments); ok {
			steps = append(steps, step)
		}
	}

	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })

	return steps
}

// drawStep draws a step. It reports false if the world cannot have a step of
// the drawn kind.
func drawStep(r *rand.Rand, s Schedule, moments []time.Duration) (Step, bool) {
	k := pick(r, shares)
	step := Step{Kind: k.kind, At: warmUp + within(r, length-warmUp)}

	if oneIn(r, 2) {
		step.At = min(warmUp+pick(r, moments)+within(r, gathering), length)
	}

	if k.longest > 0 {
		// The smaller of two times favours short faults, near the bounds of 1
		// s, 5 s and the TTL of a lease.
		step.For = min(within(r, k.longest), within(r, k.longest)) + shortest
	}

	ok := k.choose(&draft{r, s, &step})

	return step, ok
}

// oneIn reports true once in n times.
func oneIn(r *rand.Rand, n int) bool {
	return r.IntN(n) == 0
}

// within draws a time of less than d, in milliseconds.
func within(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

func pick[E any](r *rand.Rand, from []E) E {
	return from[r.IntN(len(from))]
}
