package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const (
	defaultDrainDelay  = time.Second
	defaultStopTimeout = 20 * time.Second
	// withdrawTimeout bounds the wait for etcd while a server drains.
	withdrawTimeout = 3 * time.Second
)

// GRPCServer is what a [Server] needs of the server beneath: *grpc.Server has it, and
// *xds.GRPCServer.
type GRPCServer interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	GracefulStop()
	Stop()
	GetServiceInfo() map[string]grpc.ServiceInfo
}

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

// WithAnnounceTimeout has Serve end, with an error, when the services are not in etcd within d, for
// a process that is of no use unless it is found. Default: 0, to serve and go on trying.
func WithAnnounceTimeout(d time.Duration) ServerOption {
	return func(o *serverOptions) { o.announceTimeout = d }
}

// Server is a gRPC server whose services are in etcd while it serves. Generated code registers and
// publishes services on it; then it is served once, by Serve or by the caller with Announce and
// Withdraw.
//
// When a service of the name grpc.health.v1.Health is registered on it (not on the gRPC server
// beneath), the entry of a service is out of etcd while the health of that service, or of the whole
// server for a service that has none, is NOT_SERVING. When none is registered, on either, Serve
// registers gRPC's own, which says SERVING for every service until the server drains.
//
// Entries carry the methods that the server serves, where their layout has room for metadata: in a
// rollout that adds a method, callers send it to the servers that have it.
type Server struct {
	registry *Registry
	grpc     GRPCServer
	opts     serverOptions

	mu        sync.Mutex
	errs      []error // what went wrong in methods that cannot say so
	published []*publication
	gate      healthGate
	announced bool
	served    bool
	unfollow  context.CancelFunc // ends the following of health
}

// publication is one entry: all services of one key.
type publication struct {
	key      string
	services []string
	layouts  []*endpoint.Layout
	leaseTTL time.Duration
	opts     []RegisterOption
	reg      *Registration // nil before the first announcement
}

// NewServer returns a server on s, which it does not start. The caller makes s, with its
// credentials and interceptors, and leaves Serve and Stop to the Server or else uses
// [Server.Announce].
func (r *Registry) NewServer(s GRPCServer, opts ...ServerOption) *Server {
	server := &Server{
		registry: r, grpc: s,
		opts: serverOptions{drainDelay: defaultDrainDelay, stopTimeout: defaultStopTimeout},
		gate: healthGate{status: make(map[string]healthpb.HealthCheckResponse_ServingStatus)},
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&server.opts)
		}
	}
	if isNil(s) {
		server.grpc = nil
		server.errs = append(server.errs, errors.New("etcd: NewServer was given a nil gRPC server"))
	}
	if err := r.start(); err != nil {
		server.errs = append(server.errs, err)
	}
	return server
}

func isNil(v any) bool {
	return v == nil || reflect.ValueOf(v).Kind() == reflect.Pointer && reflect.ValueOf(v).IsNil()
}

// fail records an error for Serve and Announce to return.
func (s *Server) fail(err error) {
	if s.announced && s.registry != nil {
		s.registry.opts.logger.Error("misuse of an etcd server", "error", err)
	}
	s.errs = append(s.errs, err)
}

// RegisterService registers a service on the gRPC server beneath. What would end the process there
// is an error of Serve and Announce here.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc == nil {
		return // said by NewServer
	}
	if err := s.checkService(desc, impl); err != nil {
		s.fail(err)
		return
	}
	s.grpc.RegisterService(desc, impl)
	if health, ok := impl.(healthpb.HealthServer); ok && desc.ServiceName == healthpb.Health_ServiceDesc.ServiceName {
		s.gate.health = health
	}
}

func (s *Server) checkService(desc *grpc.ServiceDesc, impl any) error {
	if desc == nil {
		return errors.New("etcd: RegisterService was given a nil description")
	}
	if s.announced {
		return fmt.Errorf("etcd: service %s is registered after the server was announced: register first", desc.ServiceName)
	}
	if _, ok := s.grpc.GetServiceInfo()[desc.ServiceName]; ok {
		return fmt.Errorf("etcd: service %s is registered twice", desc.ServiceName)
	}
	if impl == nil || desc.HandlerType == nil {
		return nil
	}
	want := reflect.TypeOf(desc.HandlerType).Elem()
	if got := reflect.TypeOf(impl); !got.Implements(want) {
		return fmt.Errorf("etcd: service %s: %v does not implement %v", desc.ServiceName, got, want)
	}
	return nil
}

// Publish makes a service one of those that are announced. Services of one key are one entry; they
// must agree on layout and lease TTL, and the options of all of them apply to it. Generated code
// calls it. Errors come out of Serve and Announce.
func (s *Server) Publish(desc *ServiceDesc, opts ...RegisterOption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.publish(desc, opts); err != nil {
		s.fail(err)
	}
}

func (s *Server) publish(desc *ServiceDesc, opts []RegisterOption) error {
	if err := desc.check(); err != nil {
		return err
	}
	if s.announced {
		return fmt.Errorf("etcd: service %s is published after the server was announced: publish first", desc.Name)
	}
	p := &publication{key: desc.Key, services: []string{desc.Name}, leaseTTL: desc.LeaseTTL, opts: opts,
		layouts: []*endpoint.Layout{desc.layout().layout()}}
	if o := newRegisterOptions(opts); o.layouts != nil {
		p.layouts = o.layouts
	}
	for _, other := range s.published {
		if slices.Contains(other.services, desc.Name) {
			return fmt.Errorf("etcd: service %s is published twice", desc.Name)
		}
	}
	for _, other := range s.published {
		if other.key == p.key {
			return other.join(p)
		}
		if err := p.apart(other); err != nil {
			return fmt.Errorf("etcd: services %s and %s: %w", other.services[0], desc.Name, err)
		}
	}
	s.published = append(s.published, p)
	return nil
}

// join makes o part of p, which has its key.
func (p *publication) join(o *publication) error {
	both := fmt.Sprintf("etcd: services %s and %s share the key %q and must agree on", p.services[0], o.services[0], p.key)
	if !slices.Equal(p.layouts, o.layouts) {
		return fmt.Errorf("%s the layout: %v and %v", both, p.layouts, o.layouts)
	}
	if p.leaseTTL != o.leaseTTL {
		return fmt.Errorf("%s the lease TTL: %v and %v", both, p.leaseTTL, o.leaseTTL)
	}
	p.services = append(p.services, o.services...)
	p.opts = append(slices.Clone(p.opts), o.opts...)
	return nil
}

func (p *publication) apart(o *publication) error {
	return keysApart(serviceKey{p.key, slices.Contains(p.layouts, endpoint.LeaseSuffix)},
		serviceKey{o.key, slices.Contains(o.layouts, endpoint.LeaseSuffix)})
}

// Status tells how the entries of this server stand, by key: none before it is announced.
func (s *Server) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Status
	for _, p := range s.published {
		if p.reg != nil {
			all = append(all, p.reg.Status())
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// Announce puts the published services in etcd for a server that the caller serves, and returns
// when they are there, save those that are not healthy. Otherwise it returns an error and leaves
// nothing behind. addr is the address listened on, as net.Listener's Addr gives it; which address
// is announced is decided as for Serve.
func (s *Server) Announce(ctx context.Context, addr string) error {
	if err := s.start(ctx, addr); err != nil {
		return err
	}
	var err error
	for _, g := range s.registrations() {
		if err = g.sync(ctx, "announce"); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(err, s.Withdraw(undo))
}

// Withdraw takes the services out of etcd, and returns when that is done or ctx has ended; the
// error then says what is left to expire. Calls are served as before. After it, Announce may be
// called again.
func (s *Server) Withdraw(ctx context.Context) error {
	s.stopFollowing()
	registrations := s.registrations()
	for _, g := range registrations {
		g.handle.Drop() // all at once, not one after the other
	}
	var errs []error
	for _, g := range registrations {
		errs = append(errs, g.Close(ctx))
	}
	s.mu.Lock()
	s.announced = false
	s.mu.Unlock()
	return errors.Join(errs...)
}

func (s *Server) stopFollowing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unfollow != nil {
		s.unfollow()
		s.unfollow = nil
	}
}

func (s *Server) registrations() []*Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Registration
	for _, p := range s.published {
		if p.reg != nil {
			all = append(all, p.reg)
		}
	}
	return all
}

// start begins to announce in the background.
func (s *Server) start(ctx context.Context, listen string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.errs...); err != nil {
		return err
	}
	if s.announced {
		return errors.New("etcd: the server is announced already")
	}
	if len(s.published) == 0 {
		s.announced = true
		return nil
	}
	a := advertiser{option: s.opts.advertise, env: os.Getenv(advertiseEnv), etcd: s.registry.client.Endpoints(), local: localAddr}
	addr, err := a.address(ctx, listen)
	if err != nil {
		return err
	}
	s.checkHealth(ctx)
	for i, p := range s.published {
		if err := s.announce(p, addr); err != nil {
			for _, started := range s.published[:i] {
				started.reg.handle.Drop()
				_ = started.reg.release(context.Background()) // nothing of it is in etcd yet
			}
			return fmt.Errorf("etcd: announce %q: %w", p.key, err)
		}
	}
	s.announced = true
	s.followHealth()
	return nil
}

func (s *Server) announce(p *publication, addr string) (err error) {
	ttl := cmp.Or(p.leaseTTL, s.registry.opts.leaseTTL)
	p.reg, err = s.registry.announce(entrySpec{
		key: p.key, ep: endpoint.Endpoint{Addr: addr, Metadata: s.methods(p.services)}, layouts: p.layouts, ttl: ttl, opts: p.opts,
	}, !s.healthy(p))
	return err
}

// healthy tells whether all services of an entry are.
func (s *Server) healthy(p *publication) bool {
	return !slices.ContainsFunc(p.services, func(service string) bool { return !s.gate.serving(service) })
}

// checkHealth learns the health of everything that is published.
func (s *Server) checkHealth(ctx context.Context) {
	if s.gate.health == nil {
		return
	}
	for _, service := range s.watchedServices() {
		s.gate.check(ctx, service)
	}
}

func (s *Server) watchedServices() []string {
	services := []string{""}
	for _, p := range s.published {
		services = append(services, p.services...)
	}
	return services
}

// followHealth takes entries out of etcd while they are not healthy, until Withdraw.
func (s *Server) followHealth() {
	if s.gate.health == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.unfollow = cancel
	for _, service := range s.watchedServices() {
		go follow(ctx, s.gate.health, service, func(status healthpb.HealthCheckResponse_ServingStatus) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			s.gate.status[service] = status
			for _, p := range s.published {
				_ = p.reg.handle.SetPaused(!s.healthy(p)) // an error: it is closed
			}
		})
	}
}

// Serve serves on lis, which it closes, until ctx ends, and announces the published services for
// as long: in the background and without end, so that it serves even while etcd is away.
//
// When ctx ends it drains: the health service turns NOT_SERVING, the services are withdrawn, which
// takes 3 s at the most, callers get the drain delay to hear of it, calls get the stop timeout to
// finish, and what is left is cut. Serve returns nil after a clean drain, and an error that wraps
// what was cut short otherwise. When the gRPC server fails, it withdraws and returns that error.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if lis == nil {
		return errors.New("etcd: Serve was given a nil listener")
	}
	if err := s.startServing(ctx, lis); err != nil {
		lis.Close()
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(lis) }()
	var err error
	select {
	case err = <-served:
		err = errors.Join(err, s.withdraw(ctx))
	case err = <-s.overdue(ctx):
		err = errors.Join(err, s.drain(ctx, served))
	case <-ctx.Done():
		err = s.drain(ctx, served)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, errors.Join(s.errs...))
}

// overdue tells when the services should have been announced and were not; never without
// WithAnnounceTimeout.
func (s *Server) overdue(ctx context.Context) <-chan error {
	if s.opts.announceTimeout <= 0 {
		return nil
	}
	late := make(chan error, 1)
	go func() { // ends with the timeout, with ctx or with the registrations
		bounded, cancel := context.WithTimeout(ctx, s.opts.announceTimeout)
		defer cancel()
		for _, g := range s.registrations() {
			if err := g.sync(bounded, "announce"); err != nil {
				if ctx.Err() == nil {
					late <- err
				}
				return
			}
		}
	}()
	return late
}

func (s *Server) startServing(ctx context.Context, lis net.Listener) error {
	s.mu.Lock()
	again := s.served
	s.served = true
	s.mu.Unlock()
	if again {
		return errors.New("etcd: the server has been served: make another for another listener")
	}
	s.serveHealth()
	return s.start(ctx, lis.Addr().String())
}

func (s *Server) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	return s.Withdraw(ctx)
}

// drain ends a server that serves.
func (s *Server) drain(ctx context.Context, served <-chan error) error {
	s.stopFollowing() // what comes next is no reason to pause
	s.gate.shutdown()
	errs := []error{s.withdraw(ctx)}
	if len(s.registrations()) > 0 {
		delay := time.NewTimer(s.opts.drainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case err := <-served: // there is nothing left to drain
			return errors.Join(append(errs, err)...)
		}
	}
	errs = append(errs, s.stop())
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stop waits for open calls to finish, but not for ever.
func (s *Server) stop() error {
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	timeout := time.NewTimer(s.opts.stopTimeout)
	defer timeout.Stop()
	select {
	case <-stopped:
		return nil
	case <-timeout.C:
		s.grpc.Stop() // makes GracefulStop return, too
		<-stopped
		return fmt.Errorf("etcd: calls that were open %v after the server stopped taking new ones were cut: %w",
			s.opts.stopTimeout, context.DeadlineExceeded)
	}
}
