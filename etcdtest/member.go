package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Member is one etcd server of a cluster. It keeps its addresses in every
// fault. It is safe for concurrent use.
type Member struct {
	cluster *Cluster
	index   int
	dir     string

	clients *proxy // for clients; Cut and Pause break it
	admin   *proxy // for Cluster.Admin; Cut and Pause do not break it

	// peers is for other members; PausePeers breaks it. Its address is in
	// etcd's data, so it must not change.
	peers *proxy

	mu       sync.Mutex
	etcd     *embed.Etcd // nil while stopped
	handlers *handlers   // of etcd
}

// handlers lets a stop wait for the handlers of requests. A handler that reads
// after etcd's end would end the process, in bbolt.
type handlers struct {
	sync.RWMutex // held for reading by each handler
	ended        bool
}

func (h *handlers) unary(
	ctx context.Context,
	req any,
	_ *grpc.UnaryServerInfo,
	handle grpc.UnaryHandler,
) (any, error) {
	h.RLock()
	defer h.RUnlock()

	if h.ended {
		return nil, status.Error(codes.Unavailable, "etcd has stopped")
	}

	return handle(ctx, req)
}

func newMember(c *Cluster, index int) (*Member, error) {
	m := &Member{cluster: c, index: index}
	m.dir = filepath.Join(c.dir, m.name())

	clientAddr := anyPort
	if index == 0 {
		clientAddr = c.settings.addr
	}

	var errs [3]error
	m.clients, errs[0] = newProxy(clientAddr)
	m.admin, errs[1] = newProxy(anyPort)
	m.peers, errs[2] = newProxy(anyPort)

	if err := errors.Join(errs[:]...); err != nil {
		m.close()
		return nil, err
	}

	return m, nil
}

// Endpoint returns the URL of the member for clients, which Cut and Pause
// affect.
func (m *Member) Endpoint() string {
	return m.cluster.clientURL(m.clients).String()
}

// Cut resets the clients' open connections, and each new connection until
// Restore.
func (m *Member) Cut() {
	m.clients.setCut(true)
}

// Restore ends Cut.
func (m *Member) Restore() {
	m.clients.setCut(false)
}

// Pause withholds all bytes between clients and the member, and keeps their
// connections open: such a black hole can be detected only by a timeout. Resume
// delivers the withheld bytes.
func (m *Member) Pause() {
	m.clients.setPaused(true)
}

// Resume ends Pause.
func (m *Member) Resume() {
	m.clients.setPaused(false)
}

// PausePeers withholds all raft messages from the member to the other members,
// and all bytes on the connections that the others opened to it. If the member
// was the leader, the others elect another leader. Renewals of leases that the
// member forwards to the leader still arrive. A member that restarts while its
// peers are paused becomes ready only after ResumePeers. PausePeers and
// [Member.Pause] together make the member hang for clients and members.
// ResumePeers delivers the withheld bytes.
func (m *Member) PausePeers() {
	m.peers.setPaused(true)
}

// ResumePeers ends PausePeers.
func (m *Member) ResumePeers() {
	m.peers.setPaused(false)
}

// Stop ends the member at once, like a crash that keeps its disk: it does not
// hand over leadership. A write that other members forward to a stopped leader
// is lost, and times out after 5 s. So wait for the next leader with
// [Cluster.Leader]. Stopping a stopped member has no effect.
func (m *Member) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.etcd == nil {
		return
	}

	for _, p := range []*proxy{m.clients, m.admin, m.peers} {
		p.setUpstream("")
	}

	m.handlers.Lock()
	m.handlers.ended = true
	m.etcd.Server.HardStop()
	m.handlers.Unlock()

	m.etcd.Close() // Close must not be called twice
	m.etcd = nil
}

// Restart stops the member if it runs, and starts it on its data. It returns
// when the member serves or, while too few members run for a quorum, when the
// member has started.
func (m *Member) Restart() error {
	m.cluster.starting.Lock()
	m.Stop()
	err := m.start()
	m.cluster.starting.Unlock()

	if err != nil {
		return err
	}

	if m.cluster.running() <= len(m.cluster.members)/2 {
		return nil
	}

	return m.waitReady()
}

// start starts the member. It does nothing if a concurrent call has started the
// member.
func (m *Member) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.etcd != nil {
		return nil
	}

	if m.cluster.closed.Load() {
		return errClosed
	}

	etcd, err := embed.StartEtcd(m.config())
	if err != nil {
		return fmt.Errorf("etcdtest: start member %d: %w", m.index, err)
	}

	m.etcd = etcd
	m.peers.setUpstream(etcd.Peers[0].Addr().String())
	m.clients.setUpstream(etcd.Clients[0].Addr().String())
	m.admin.setUpstream(etcd.Clients[0].Addr().String())

	return nil
}

func (m *Member) waitReady() error {
	etcd := m.running()
	if etcd == nil {
		return fmt.Errorf("etcdtest: member %d was stopped while it started", m.index)
	}

	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("etcdtest: member %d stopped while it started", m.index)
	case <-time.After(startTimeout):
		return fmt.Errorf("etcdtest: member %d is not ready after %v", m.index,
			startTimeout)
	}
}

// running returns the member's server, nil while it is stopped.
func (m *Member) running() *embed.Etcd {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.etcd
}

// config returns a configuration for speed: an election takes about 100 ms, and
// no write waits for a disk.
func (m *Member) config() *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = m.name()
	cfg.Dir = m.dir
	cfg.TickMs = 10
	cfg.ElectionMs = 100
	cfg.UnsafeNoFsync = true
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(m.cluster.settings.logger)

	m.handlers = new(handlers)
	cfg.GRPCAdditionalServerOptions = append(m.cluster.calls.serverOptions(m.index),
		grpc.ChainUnaryInterceptor(m.handlers.unary))

	// The member listens on free ports, and advertises the addresses of its
	// proxies.
	anywhere := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenPeerUrls = []url.URL{anywhere}
	cfg.AdvertisePeerUrls = []url.URL{*m.peerURL()}

	peers := make([]string, len(m.cluster.members))
	for i, peer := range m.cluster.members {
		peers[i] = peer.name() + "=" + peer.peerURL().String()
	}

	cfg.InitialCluster = strings.Join(peers, ",")

	anywhere.Scheme = m.cluster.scheme()
	cfg.ListenClientUrls = []url.URL{anywhere}
	cfg.AdvertiseClientUrls = []url.URL{*m.cluster.clientURL(m.clients)}
	cfg.ClientTLSInfo = m.cluster.certificate

	cfg.BcryptCost = 4 // bcrypt's minimum, for speed: the passwords are not secret
	cfg.AuthTokenTTL = uint(m.cluster.settings.tokenTTL.Seconds())

	for _, change := range m.cluster.settings.changes {
		change(cfg)
	}

	return cfg
}

func (m *Member) name() string {
	return fmt.Sprintf("member%d", m.index)
}

func (m *Member) peerURL() *url.URL {
	return &url.URL{Scheme: "http", Host: m.peers.addr()}
}

// wipe removes the data of a stopped member.
func (m *Member) wipe() error {
	if err := os.RemoveAll(m.dir); err != nil {
		return fmt.Errorf("etcdtest: wipe member %d: %w", m.index, err)
	}

	return nil
}

func (m *Member) close() {
	m.Stop()

	for _, p := range []*proxy{m.clients, m.admin, m.peers} {
		if p != nil {
			p.close()
		}
	}
}
