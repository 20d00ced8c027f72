package etcdtest

import (
	"cmp"
	"fmt"
	"time"

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
}

func newSettings(opts []Option) settings {
	s := settings{members: 1, addr: anyPort, logger: zap.NewNop(), tokenTTL: 5 * time.Minute}
	for _, opt := range opts {
		opt(&s)
	}
	return s
}

func (s settings) check() error {
	if s.members < 1 {
		return fmt.Errorf("etcdtest: a cluster of %d members: it takes at least one", s.members)
	}
	if s.tokenTTL < time.Second {
		return fmt.Errorf("etcdtest: a token TTL of %v: etcd's least is 1s", s.tokenTTL)
	}
	return nil
}

// WithMembers sets how many members the cluster has: 1 by default, 3 to be able to lose one.
func WithMembers(n int) Option { return func(s *settings) { s.members = n } }

// WithAddress sets the host:port where clients reach the first member: a free port of the loopback
// interface by default.
func WithAddress(addr string) Option { return func(s *settings) { s.addr = addr } }

// WithLogger shows what the members log. By default, and for nil, it is dropped.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) { s.logger = cmp.Or(logger, zap.NewNop()) }
}

// WithTLS makes clients speak TLS to the members, which prove themselves with certificates of a
// certificate authority made for this cluster. [Cluster.Config] trusts it; so does who loads
// [Cluster.CAFile].
func WithTLS() Option { return func(s *settings) { s.tls = true } }

// WithAuth turns etcd's authentication on, with the user root and those given.
// [Cluster.Config] is root's; [As] makes it another user's.
func WithAuth(rootPassword string, users ...User) Option {
	return func(s *settings) { s.auth = &auth{rootPassword: rootPassword, users: users} }
}

// WithTokenTTL sets how long etcd keeps a client's token that is not used: 5 minutes by default.
// etcd counts it in whole seconds, 1 s at least. It needs [WithAuth].
func WithTokenTTL(ttl time.Duration) Option { return func(s *settings) { s.tokenTTL = ttl } }
