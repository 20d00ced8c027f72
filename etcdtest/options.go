package etcdtest

import (
	"cmp"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Option changes how [Start] and [New] set up a cluster.
type Option func(*settings)

type settings struct {
	members  int
	addr     string
	logger   *zap.Logger
	tls      bool
	auth     *auth
	tokenTTL time.Duration
	changes  []func(*embed.Config)
}

// WithMembers sets the number of members, 1 by default. With 3, a cluster
// tolerates the loss of one.
func WithMembers(n int) Option {
	return func(s *settings) { s.members = n }
}

// WithAddress sets the host:port where clients reach the first member, by
// default a free port of 127.0.0.1.
func WithAddress(addr string) Option {
	return func(s *settings) { s.addr = addr }
}

// WithLogger sets the logger of the members. By default, and with nil, they log
// nothing.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) { s.logger = cmp.Or(logger, zap.NewNop()) }
}

// WithTLS requires TLS between clients and members. The members have one
// self-signed certificate, which is in [Cluster.CAFile]. [Cluster.Config]
// trusts it.
func WithTLS() Option {
	return func(s *settings) { s.tls = true }
}

// WithAuth enables etcd's authentication, with the user root and the given
// users. Clients with [Cluster.Config] log in as root, or with [As] as another
// user.
func WithAuth(rootPassword string, users ...User) Option {
	return func(s *settings) { s.auth = &auth{rootPassword: rootPassword, users: users} }
}

// WithTokenTTL sets how long etcd keeps an unused token of a client, 5 minutes
// by default. The minimum is 1 s; fractions of a second are dropped. It has no
// effect without [WithAuth].
func WithTokenTTL(ttl time.Duration) Option {
	return func(s *settings) { s.tokenTTL = ttl }
}

// WithMaxConcurrentStreams sets how many streams each connection of a client
// may have open at once: further calls and watches wait. etcd's default allows
// more than any client opens.
func WithMaxConcurrentStreams(n uint32) Option {
	return WithConfig(func(cfg *embed.Config) { cfg.MaxConcurrentStreams = n })
}

// WithConfig calls change with etcd's configuration of each member, whenever
// the member starts, for settings that have no option of their own. The names,
// addresses and directories must stay.
func WithConfig(change func(*embed.Config)) Option {
	return func(s *settings) { s.changes = append(s.changes, change) }
}
