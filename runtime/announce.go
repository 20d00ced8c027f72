package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Announce puts the published services in etcd for a server that the caller serves, and returns
// when they are there, save those that are not healthy. Otherwise it returns an error and leaves
// nothing behind. addr is the address listened on, as net.Listener's Addr gives it; which address
// is announced is decided as for Serve.
func (s *Server) Announce(ctx context.Context, addr string) error {
	if err := s.start(ctx, addr); err != nil {
		return err
	}
	s.tieHealth()
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
	s.untieHealth()
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
	services, health, err := s.claim()
	if err != nil {
		return err
	}
	if len(services) == 0 {
		return nil
	}
	// Both may take time, and the health service is the caller's code: not under the lock.
	a := advertiser{option: s.opts.advertise, env: os.Getenv(advertiseEnv), etcd: s.registry.client.Endpoints(), local: localAddr}
	addr, err := a.address(ctx, listen)
	status := check(ctx, health, services)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		maps.Copy(s.gate.status, status)
		err = s.announceAll(addr)
	}
	if err != nil {
		s.announced = false
		return err
	}
	s.everAnnounced = true
	s.followHealth()
	return nil
}

// claim makes sure that the server is announced once at a time, and tells whose health matters: no
// services where nothing is published.
func (s *Server) claim() (services []string, health healthpb.HealthServer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.errs...); err != nil {
		return nil, nil, err
	}
	if s.announced {
		return nil, nil, errors.New("etcd: the server is announced already")
	}
	s.announced = true
	if len(s.published) == 0 {
		s.everAnnounced = true
		return nil, nil, nil
	}
	return s.watchedServices(), s.gate.health, nil
}

// announceAll must be called with mu held.
func (s *Server) announceAll(addr string) error {
	for i, p := range s.published {
		if err := s.announce(p, addr); err != nil {
			for _, started := range s.published[:i] {
				started.reg.handle.Drop()
				_ = started.reg.release(context.Background()) // nothing of it is in etcd yet
			}
			return fmt.Errorf("etcd: announce %q: %w", p.key, err)
		}
	}
	return nil
}

func (s *Server) announce(p *publication, addr string) (err error) {
	ttl := cmp.Or(p.leaseTTL, s.registry.opts.leaseTTL)
	p.reg, err = s.registry.announce(entrySpec{
		key: p.key, ep: endpoint.Endpoint{Addr: addr, Metadata: s.methods(p.services)}, layouts: p.layouts, ttl: ttl, opts: p.opts,
	}, !s.healthy(p))
	return err
}
