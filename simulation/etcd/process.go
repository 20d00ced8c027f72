package etcd

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// process is one run of a member.
type process struct {
	c        *Cluster
	member   int
	etcd     *etcdserver.EtcdServer
	grpc     *grpc.Server
	listener net.Listener
	inbox    chan letter  // raft messages from peers
	handler  http.Handler // serves the requests of peers
	events   mvcc.WatchStream
	free     time.Time // when the process has served its queue; guarded by c.mu

	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines of the process
	users  sync.WaitGroup // calls of use under way
}

// startProcess starts a process on a member's data.
func (c *Cluster) startProcess(member int) (*process, error) {
	lis, err := c.network.Listen(c.addrs[member])
	if err != nil {
		return nil, err
	}

	s, err := c.newServer(member)
	if err != nil {
		return nil, errors.Join(err, lis.Close())
	}

	p := &process{
		c:        c,
		member:   member,
		etcd:     s,
		listener: lis,
		inbox:    make(chan letter, 1024),
	}

	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.handler = etcdhttp.NewPeerHandler(logger, s)
	p.events = c.mirror.watch(s.Watchable())
	s.Start()
	p.grpc = v3rpc.Server(s, nil, nil, p.serverOptions()...)

	p.tasks.Go(func() {
		for r := range p.events.Chan() {
			p.c.mirror.take(r)
		}
	})

	p.tasks.Go(p.receive)
	p.tasks.Go(func() {
		select {
		case <-p.etcd.ReadyNotify(): // as etcd does
			_ = p.grpc.Serve(p.listener) // Serve returns when the process stops
		case <-p.ctx.Done():
		}
	})

	return p, nil
}

// newServer returns a server that is not started. It has etcd's default
// configuration, except for settings that cost time or disk, and an in-memory
// transport to its peers.
func (c *Cluster) newServer(member int) (*etcdserver.EtcdServer, error) {
	client, err := types.NewURLs([]string{"http://" + c.addrs[member]})
	if err != nil {
		return nil, err
	}

	peers, err := types.NewURLsMap(c.initialCluster())
	if err != nil {
		return nil, err
	}

	s, err := etcdserver.NewServer(config.ServerConfig{
		Name:                        name(member),
		DataDir:                     c.dataDir(member),
		ClientURLs:                  client,
		PeerURLs:                    peers[name(member)],
		InitialPeerURLsMap:          peers,
		InitialClusterToken:         c.token,
		NewCluster:                  true,
		SnapshotCount:               defaults.SnapshotCount,
		SnapshotCatchUpEntries:      defaults.SnapshotCatchUpEntries,
		TickMs:                      defaults.TickMs,
		ElectionTicks:               defaults.ElectionTicks(),
		PreVote:                     defaults.PreVote,
		InitialElectionTickAdvance:  defaults.InitialElectionTickAdvance,
		BootstrapTimeout:            time.Second,
		MaxTxnOps:                   defaults.MaxTxnOps,
		MaxRequestBytes:             defaults.MaxRequestBytes,
		MaxConcurrentStreams:        defaults.MaxConcurrentStreams,
		CompactionBatchLimit:        defaults.CompactionBatchLimit,
		AuthToken:                   defaults.AuthToken,
		TokenTTL:                    uint(c.tokenTTL / time.Second),
		WatchProgressNotifyInterval: defaults.WatchProgressNotifyInterval,
		WarningApplyDuration:        defaults.WarningApplyDuration,
		V2Deprecation:               defaults.V2DeprecationEffective(),
		ServerFeatureGate:           defaults.ServerFeatureGate,
		BcryptCost:                  4,
		UnsafeNoFsync:               true,
		Logger:                      logger,
	})
	if err != nil {
		return nil, err
	}

	setTransport(s, &transport{c: c, member: member, etcd: s})

	return s, nil
}

// defaults is etcd's default configuration.
var defaults = embed.NewConfig()

// logger logs nothing. It panics where etcd would exit, because the test would
// otherwise end without a message.
var logger = zap.New(zapcore.NewNopCore(), zap.WithFatalHook(zapcore.WriteThenPanic))

// serverOptions returns the options that etcd sets, and interceptors that apply
// verdicts. They run before etcd's own interceptors.
func (p *process) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: defaults.GRPCKeepAliveMinTime,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    defaults.GRPCKeepAliveInterval,
			Timeout: defaults.GRPCKeepAliveTimeout,
		}),
		grpc.UnaryInterceptor(p.interceptUnary),
		grpc.StreamInterceptor(p.interceptStream),
		grpc.WaitForHandlers(true), // a handler must not read a closed database
	}
}

// runs reports whether there is a process that has not been stopped.
func (p *process) runs() bool {
	return p != nil && p.ctx.Err() == nil
}

// stop ends the process. It resets the connections first: gRPC's server would
// send GOAWAY on them.
func (p *process) stop() {
	_ = p.listener.Close() // the server also closes the listener
	p.c.network.Crash(hostOf(p.listener.Addr()))

	p.c.mu.Lock()
	p.cancel()
	p.c.mu.Unlock()

	p.users.Wait()
	p.grpc.Stop()
	p.etcd.HardStop()
	p.events.Close()
	p.tasks.Wait()
}

// use calls f with a context that ends with the process. stop waits until f has
// returned.
func (p *process) use(ctx context.Context, f func(ctx context.Context) error) error {
	p.c.mu.Lock()

	if !p.runs() {
		p.c.mu.Unlock()
		return rpctypes.ErrGRPCStopped
	}

	p.users.Add(1)
	p.c.mu.Unlock()

	defer p.users.Done()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	return f(ctx)
}

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}

	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
