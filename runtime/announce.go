package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

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
	if s.registry != nil {
		s.registry.regs.listen(s, nil)
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
