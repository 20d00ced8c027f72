// Package etcdtest runs a real etcd inside a test, and breaks it on demand:
//
//	cluster := etcdtest.Start(t) // takes a fraction of a second; stops at the end of the test
//	client := cluster.Client(t)
//	cluster.Cut() // client loses its connection
//
// A cluster has one member, or more with [WithMembers]. Clients reach the
// members through TCP proxies, which [Member.Cut] and [Member.Pause] break.
// [Cluster.Admin] bypasses the proxies, so a test can access etcd while the
// code under test cannot. [Cluster.Calls] has the requests of the code under
// test.
//
// The members are tuned for speed: they elect a leader in about 100 ms and
// never wait for a disk.
package etcdtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

var errClosed = errors.New("etcdtest: the cluster is closed")

// startTimeout bounds the start of a cluster, on a machine under load.
const startTimeout = time.Minute

// Cluster is an etcd cluster that runs in this process. It is safe for
// concurrent use.
type Cluster struct {
	dir      string
	settings settings
	calls    *Calls
	members  []*Member

	certificate transport.TLSInfo // zero without TLS
	trust       *tls.Config       // trusts only the certificate; nil without TLS

	// starting is held from the stop of members to their restart. Otherwise a
	// concurrent call could start a member while the member's data is copied or
	// removed, and etcd would end the process.
	starting sync.Mutex

	admin   atomic.Pointer[clientv3.Client]
	closing sync.Once
	closed  atomic.Bool
	lock    *fileutil.LockedFile // of dir
}

// Start runs a cluster until the test ends. If the start fails or takes a
// minute, Start ends the test by t.Fatal.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()

	c, err := New(t.TempDir(), opts...)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(c.Close)

	return c
}

// New runs a cluster, for programs other than tests. The caller must close the
// cluster. The cluster's data is in dir, which must be empty. New creates dir
// if necessary, and Close does not remove dir. New fails if another cluster
// uses dir.
func New(dir string, opts ...Option) (*Cluster, error) {
	c := &Cluster{dir: dir, calls: &Calls{changed: make(chan struct{})}}
	c.settings = settings{
		members:  1,
		addr:     anyPort,
		logger:   zap.NewNop(),
		tokenTTL: 5 * time.Minute,
	}

	for _, opt := range opts {
		opt(&c.settings)
	}

	if err := c.start(); err != nil {
		c.Close()
		return nil, err
	}

	return c, nil
}

// Close stops the members and releases their resources, but does not close
// clients other than [Cluster.Admin]. A second Close has no effect. A closed
// cluster cannot be restarted.
func (c *Cluster) Close() {
	c.closing.Do(func() {
		c.closed.Store(true)

		if admin := c.Admin(); admin != nil {
			// An error does not matter: the client's leases and watches end
			// with the cluster.
			_ = admin.Close()
		}

		c.onAll((*Member).close)

		if c.lock != nil {
			_ = c.lock.Close() // otherwise the lock ends with the process
		}
	})
}

// Endpoints returns the addresses of the members for clients, in the form of
// clientv3.Config.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, len(c.members))
	for i, m := range c.members {
		endpoints[i] = m.Endpoint()
	}

	return endpoints
}

// Config returns a configuration for clients that reach the cluster through the
// proxies. With [WithAuth], these clients log in as root. Their keepalive
// detects a black hole in 13 s: gRPC's minimum of 10 s and a timeout of 3 s.
// The caller may change the configuration.
func (c *Cluster) Config() clientv3.Config {
	cfg := clientv3.Config{
		Endpoints:            c.Endpoints(),
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		Logger:               zap.NewNop(),
		TLS:                  c.trust.Clone(),
	}

	if c.settings.auth != nil {
		cfg.Username = root
		cfg.Password = c.settings.auth.rootPassword
		cfg.DialTimeout = startTimeout // clientv3.New logs in
	}

	return cfg
}

// CAFile returns the PEM file of the certificate that clients must trust, ""
// without [WithTLS].
func (c *Cluster) CAFile() string {
	return c.certificate.CertFile
}

// Client returns a client with the configuration of [Cluster.Config] after the
// changes. The client is closed when the test ends. If no client can be made,
// Client ends the test by t.Fatal.
func (c *Cluster) Client(
	t testing.TB,
	changes ...func(*clientv3.Config),
) *clientv3.Client {
	t.Helper()

	cfg := c.Config()
	for _, change := range changes {
		change(&cfg)
	}

	client, err := clientv3.New(cfg)
	if err != nil {
		t.Fatalf("etcdtest: connect to etcd at %v: %v", cfg.Endpoints, err)
	}

	t.Cleanup(func() {
		// An error does not matter: the test may have closed the client, or
		// stopped the members.
		_ = client.Close()
	})

	return client
}

// Admin returns a client of root, whose requests bypass the proxies and are not
// in [Cluster.Calls]. The cluster closes the client. With [WithAuth],
// [Cluster.Wipe] and [Cluster.RestoreBackup] make a new one.
func (c *Cluster) Admin() *clientv3.Client {
	return c.admin.Load()
}

// Calls returns the requests that have reached the members.
func (c *Cluster) Calls() *Calls {
	return c.calls
}

// Members returns all members, including the stopped ones.
func (c *Cluster) Members() []*Member {
	return c.members
}

// Member returns the member with the index i, counted from 0.
func (c *Cluster) Member(i int) *Member {
	return c.members[i]
}

// Leader waits until the running members agree on their leader, and returns it,
// or an error if ctx ends first.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()

	for {
		if leader := c.agreedLeader(); leader != nil {
			return leader, nil
		}

		select {
		case <-ctx.Done():
			return nil, fmt.Errorf(
				"etcdtest: the members have not agreed on a leader: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// Cut cuts every member: see [Member.Cut].
func (c *Cluster) Cut() {
	c.onAll((*Member).Cut)
}

// Restore ends [Cluster.Cut].
func (c *Cluster) Restore() {
	c.onAll((*Member).Restore)
}

// Pause pauses every member: see [Member.Pause].
func (c *Cluster) Pause() {
	c.onAll((*Member).Pause)
}

// Resume ends [Cluster.Pause].
func (c *Cluster) Resume() {
	c.onAll((*Member).Resume)
}

// Stop stops every member: see [Member.Stop].
func (c *Cluster) Stop() {
	c.onAll((*Member).Stop)
}

// Restart stops every member that runs, starts all on their data, and returns
// when they serve.
func (c *Cluster) Restart() error {
	return c.restartAfter(func(*Member) error { return nil }, nil)
}

// Wipe restarts every member without data, at the same address. There are no
// keys and leases, and the revision starts at 1 again. With [WithAuth], Wipe
// creates the users again, and earlier clients become unusable: a request with
// a token from a higher raft index hangs in etcd.
func (c *Cluster) Wipe() error {
	return c.restartAfter((*Member).wipe, c.connectAdmin)
}

// Compact removes the history before the current revision, which it returns.
func (c *Cluster) Compact(ctx context.Context) (revision int64, err error) {
	admin := c.Admin()
	now, err := admin.Get(ctx, "\x00") // a response for any key has the revision
	if err != nil {
		return 0, fmt.Errorf("etcdtest: read the revision: %w", err)
	}

	revision = now.Header.Revision

	_, err = admin.Compact(ctx, revision, clientv3.WithCompactPhysical())
	if err != nil {
		return 0, fmt.Errorf("etcdtest: compact to revision %d: %w", revision, err)
	}

	return revision, nil
}

func (c *Cluster) start() error {
	if c.settings.members < 1 {
		return fmt.Errorf("etcdtest: WithMembers(%d): want at least 1",
			c.settings.members)
	}

	if c.settings.tokenTTL < time.Second {
		return fmt.Errorf("etcdtest: WithTokenTTL(%v): want at least 1s, etcd's minimum",
			c.settings.tokenTTL)
	}

	if err := c.lockDir(); err != nil {
		return err
	}

	if c.settings.tls {
		if err := c.createCertificate(); err != nil {
			return err
		}
	}

	for i := range c.settings.members {
		m, err := newMember(c, i)
		if err != nil {
			return err
		}

		for _, other := range c.members {
			m.peers.others = append(m.peers.others, other.peers)
			other.peers.others = append(other.peers.others, m.peers)
		}

		c.members = append(c.members, m)
	}

	if err := c.run(); err != nil {
		return err
	}

	return c.connectAdmin()
}

// lockDir creates and locks the directory. Without the lock, etcd would wait
// until another cluster releases its database.
func (c *Cluster) lockDir() error {
	if err := os.MkdirAll(c.dir, fileutil.PrivateDirMode); err != nil {
		return fmt.Errorf("etcdtest: %w", err)
	}

	name := filepath.Join(c.dir, "etcdtest.lock")
	lock, err := fileutil.TryLockFile(name, os.O_CREATE|os.O_WRONLY,
		fileutil.PrivateFileMode)
	if err != nil {
		return fmt.Errorf("etcdtest: lock %s, which another cluster may be using: %w",
			name, err)
	}

	c.lock = lock

	return nil
}

// restartAfter stops all members, calls change for each, and starts them again.
// With [WithAuth] it then calls reconnect, if not nil.
func (c *Cluster) restartAfter(change func(*Member) error, reconnect func() error) error {
	c.starting.Lock()
	defer c.starting.Unlock()

	c.Stop()

	if err := c.tryAll(change); err != nil {
		return err
	}

	if err := c.run(); err != nil || c.settings.auth == nil || reconnect == nil {
		return err
	}

	return reconnect()
}

// run starts all members and waits until they serve.
func (c *Cluster) run() error {
	if c.closed.Load() {
		return errClosed
	}

	if err := c.tryAll((*Member).start); err != nil {
		return err
	}

	return c.tryAll((*Member).waitReady)
}

// connectAdmin enables authentication for [WithAuth], then creates the admin
// client.
func (c *Cluster) connectAdmin() error {
	if c.settings.auth != nil {
		if err := c.settings.auth.enable(c.adminConfig()); err != nil {
			return err
		}
	}

	return c.replaceAdmin()
}

// replaceAdmin creates a new admin client.
func (c *Cluster) replaceAdmin() error {
	admin, err := clientv3.New(c.adminConfig())
	if err != nil {
		return fmt.Errorf("etcdtest: connect the admin client: %w", err)
	}

	if old := c.admin.Swap(admin); old != nil {
		// An error does not matter: the old client's leases and watches have
		// ended.
		_ = old.Close()
	}

	return nil
}

func (c *Cluster) adminConfig() clientv3.Config {
	cfg := c.Config()
	for i, m := range c.members {
		cfg.Endpoints[i] = c.clientURL(m.admin).String()
	}

	cfg.DialOptions = []grpc.DialOption{grpc.WithPerRPCCredentials(adminCredentials{})}

	return cfg
}

// onAll runs do for all members at once.
func (c *Cluster) onAll(do func(*Member)) {
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(func() { do(m) })
	}

	wg.Wait()
}

// tryAll runs do for all members at once, and joins the errors.
func (c *Cluster) tryAll(do func(*Member) error) error {
	errs := make([]error, len(c.members))
	c.onAll(func(m *Member) { errs[m.index] = do(m) })

	return errors.Join(errs...)
}

// agreedLeader returns the leader, nil while the running members disagree or
// know no leader.
func (c *Cluster) agreedLeader() (leader *Member) {
	var id types.ID
	for _, m := range c.members {
		etcd := m.running()
		if etcd == nil {
			continue
		}

		named := etcd.Server.Leader()
		if named == 0 || id != 0 && named != id {
			return nil
		}

		id = named
		if named == etcd.Server.MemberID() {
			leader = m
		}
	}

	return leader
}

// running returns the number of members that are not stopped.
func (c *Cluster) running() (n int) {
	for _, m := range c.members {
		if m.running() != nil {
			n++
		}
	}

	return n
}

func (c *Cluster) scheme() string {
	if c.trust != nil {
		return "https"
	}

	return "http"
}

func (c *Cluster) clientURL(p *proxy) *url.URL {
	return &url.URL{Scheme: c.scheme(), Host: p.addr()}
}
