// Package calloptions keeps in a call's context what the call asks of the policy.
//
//	options.go   all of it, as one value
//	target.go    which instance the call goes to
//	lane.go      ... or which lane's
//	affinity.go  ... or which key it is tied to
package calloptions

import "context"

// Options are what a call asks for. They are immutable, and one value, since to look a context through for each takes
// longer than all else in a pick.
type Options struct {
	Target   Target
	Named    bool // there is a target
	Lane     string
	Affinity Key
}

// Target names the instance that a call goes to.
type Target struct {
	Instance string
	Addr     string // tells it from others with the same id; "": the first of that id, or wherever it is now
	Sequence uint64 // of the key's state that the instance is from, for which the call waits; 0: any
}

// Key is a key that calls are tied to.
type Key struct {
	Text       string // "": none
	Hash       uint64 // of the text
	HeaderHash uint64 // of the header, as ring_hash has it
}

type contextKey struct{}

var none Options

// Of returns the options of the calls made with ctx, which must not be written to.
func Of(ctx context.Context) *Options {
	if o, ok := ctx.Value(contextKey{}).(*Options); ok {
		return o
	}
	return &none
}

// IsEmpty reports whether the calls made with ctx ask for nothing.
func IsEmpty(ctx context.Context) bool { return Of(ctx) == &none }

// with returns ctx with its options changed.
func with(ctx context.Context, change func(*Options)) context.Context {
	o := *Of(ctx)
	change(&o)
	return context.WithValue(ctx, contextKey{}, &o)
}
