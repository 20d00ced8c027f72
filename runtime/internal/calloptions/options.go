// Package calloptions keeps the policy's options of a call in the call's context.
//
//	options.go   the options, as one value
//	target.go    the instance that the call goes to
//	lane.go      the lane of the call
//	affinity.go  the key that the call is tied to
package calloptions

import "context"

// Options are the options of a call. They are immutable, and one value: a search of the context for each option would take
// longer than the rest of a pick.
type Options struct {
	Target   Target
	Named    bool // Target is set
	Lane     string
	Affinity Key
}

// Target names the instance that a call goes to.
type Target struct {
	Instance string
	Addr     string // distinguishes instances with one id; "": the first with that id, at any address
	Sequence uint64 // of the state of the key that has the instance; the call waits for that state; 0: any
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

// IsEmpty reports whether the calls made with ctx have no options.
func IsEmpty(ctx context.Context) bool { return Of(ctx) == &none }

// with returns ctx with its options changed.
func with(ctx context.Context, change func(*Options)) context.Context {
	o := *Of(ctx)
	change(&o)
	return context.WithValue(ctx, contextKey{}, &o)
}
