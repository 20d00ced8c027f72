package calloptions

import "context"

// WithTarget has the calls made with ctx go to an instance.
func WithTarget(ctx context.Context, to Target) context.Context {
	return with(ctx, func(o *Options) { o.Target, o.Named = to, true })
}
