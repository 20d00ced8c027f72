package runtime

import "time"

const (
	defaultDrainDelay  = time.Second
	defaultStopTimeout = 20 * time.Second
)

// ServerOption configures a [Server].
type ServerOption func(*serverOptions)

type serverOptions struct {
	advertise       string
	drainDelay      time.Duration
	stopTimeout     time.Duration
	announceTimeout time.Duration
}

func newServerOptions(opts []ServerOption) serverOptions {
	o := serverOptions{drainDelay: defaultDrainDelay, stopTimeout: defaultStopTimeout}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// WithAdvertiseAddress sets the address that is announced to callers: "host:port", or a host alone, which gets the
// listener's port. Default: the environment variable GRPC_ADVERTISE_ADDR; without it, the listener's address if
// it is one address; else the local address that this host uses to reach etcd.
func WithAdvertiseAddress(addr string) ServerOption {
	return func(o *serverOptions) { o.advertise = addr }
}

// WithDrainDelay sets how long a server accepts calls after its withdrawal, for callers to notice it.
// Default: 1 s.
func WithDrainDelay(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.drainDelay = d }
}

// WithStopTimeout sets how long open calls may take to finish when a server stops. After that, open calls are
// cut. Default: 20 s. Minimum: 100 ms, enough for a server without open calls to stop if its clients respond.
func WithStopTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.stopTimeout = d }
}

// WithAnnounceTimeout makes Serve return an error if the services are not in etcd within d, or as soon as etcd
// refuses them. It is for processes that must not run unless callers can find them. Default: 0, which means to
// serve and keep trying.
func WithAnnounceTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.announceTimeout = d }
}
