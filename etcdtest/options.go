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

// WithMembers sets the number of members: 1 by default, 3 to tolerate the loss of one.
func WithMembers(n int) Option { return func(s *settings) { s.members = n } }

// WithAddress sets the host:port where clients reach the first member: a free port of the loopback
// interface by default.
func WithAddress(addr string) Option { return func(s *settings) { s.addr = addr } }

// WithLogger sets the logger of the members. By default, and for nil, their logs are dropped.
func WithLogger(logger *zap.Logger) Option {
	return func(s *settings) { s.logger = cmp.Or(logger, zap.NewNop()) }
}

// WithTLS makes clients use TLS to the members, whose certificates are signed by a certificate authority
// created for this cluster. [Cluster.Config] trusts it, and [Cluster.CAFile] has its certificate.
func WithTLS() Option { return func(s *settings) { s.tls = true } }

// WithAuth enables etcd's authentication, with the user root and the given users. [Cluster.Config]
// is root's; [As] changes it to another user's.
func WithAuth(rootPassword string, users ...User) Option {
	return func(s *settings) { s.auth = &auth{rootPassword: rootPassword, users: users} }
}

// WithTokenTTL sets how long etcd keeps an unused token of a client: 5 minutes by default. etcd
// counts it in whole seconds, 1 s at least. It needs [WithAuth].
func WithTokenTTL(ttl time.Duration) Option { return func(s *settings) { s.tokenTTL = ttl } }
