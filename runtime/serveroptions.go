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

// WithDrainDelay sets how long a server takes calls after it has withdrawn, until callers have heard of that.
// Default: 1 s.
func WithDrainDelay(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.drainDelay = d }
}

// WithStopTimeout sets how long open calls may take to finish when a server stops. Calls that are open then are
// cut. Default: 20 s. At least: 100 ms, in which a server without open calls has stopped if its clients answer.
func WithStopTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.stopTimeout = d }
}

// WithAnnounceTimeout has Serve end with an error when the services are not in etcd within d, or as soon as etcd
// refuses them. It is for processes that must not run unless callers can find them. Default: 0, which means to
// serve and go on trying.
func WithAnnounceTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.announceTimeout = d }
}
