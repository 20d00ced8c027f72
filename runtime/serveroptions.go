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

// WithAdvertiseAddress sets the address that callers are told, "host:port", or a host alone for the
// listener's port. Default: the environment variable GRPC_ADVERTISE_ADDR; without it, the address
// listened on, where it is one address; else the local address that this host uses to reach etcd.
func WithAdvertiseAddress(addr string) ServerOption {
	return func(o *serverOptions) { o.advertise = addr }
}

// WithDrainDelay sets how long a server that has withdrawn goes on taking calls, for callers to
// hear of it. Default: 1 s.
func WithDrainDelay(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.drainDelay = d }
}

// WithStopTimeout sets how long open calls may take to finish when a server stops; what is left is
// cut. Default: 20 s.
func WithStopTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.stopTimeout = d }
}

// WithAnnounceTimeout has Serve end, with an error, when the services are not in etcd within d, or
// sooner when etcd denies it, for a process that is of no use unless it is found. Default: 0, to serve
// and go on trying.
func WithAnnounceTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.announceTimeout = d }
}
