package balancer

import "context"

type wishesKey struct{}

// wishes are what a call asks of the policy by its context. They are immutable, and one value, since to look a context
// through for each takes longer than all else in a pick.
type wishes struct {
	target   targetRef
	named    bool // there is a target
	lane     string
	affinity affinity
}

// noWishes are those of most calls.
var noWishes wishes

// wishesOf returns the wishes of the calls made with ctx, which must not be written to.
func wishesOf(ctx context.Context) *wishes {
	if w, ok := ctx.Value(wishesKey{}).(*wishes); ok {
		return w
	}
	return &noWishes
}

// wishing returns ctx with its wishes changed.
func wishing(ctx context.Context, change func(*wishes)) context.Context {
	w := *wishesOf(ctx)
	change(&w)
	return context.WithValue(ctx, wishesKey{}, &w)
}

// Wishless reports whether the calls made with ctx ask nothing of the policy.
func Wishless(ctx context.Context) bool { return wishesOf(ctx) == &noWishes }

// affinity is a key that calls are tied to.
type affinity struct {
	key  string
	hash uint64 // of the key
	ring uint64 // of the header, as ring_hash has it
}

// targetRef names the instance that a call goes to.
type targetRef struct {
	instance string
	addr     string // tells it from others with the same id; "": the first of that id, or wherever it is now
	sequence uint64 // of the key's state that the instance is from; 0: any
	waits    bool   // the call, which is wait-for-ready, waits while the instance is not there
}
