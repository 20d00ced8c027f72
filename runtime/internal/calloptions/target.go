package calloptions

import "context"

// WithTarget sends the calls made with ctx to an instance.
func WithTarget(ctx context.Context, to Target) context.Context {
	return with(ctx, func(o *Options) { o.Target, o.Named = to, true })
}
