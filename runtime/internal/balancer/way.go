package balancer

import "context"

// way chooses one of the instances of a set, which are ready, for a call. It is immutable. Which calls are where is in the
// plan; a way knows no lanes, groups or zones.
type way interface {
	traits() traits
	// pick returns the index of a member that is not full, or why there is none. It allocates nothing.
	pick(ctx context.Context, w *wishes, s *set) int
}

// Why a way picks no member.
const (
	full = -1 // all are
	wait = -2 // the call is for one that connects
)

// traits say what a way needs from the rest of the policy.
type traits struct {
	weighs bool // the endpoints' weights count
	counts bool // calls under way are counted
	times  bool // it is measured how long calls take
	single bool // one connection at a time serves, as in pick_first
}
