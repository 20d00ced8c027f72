package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// registrations are the sessions of a registry, and the keys that the process has published.
type registrations struct {
	mu       sync.Mutex
	closed   bool
	shared   map[time.Duration]*lease.Session // by TTL
	sessions map[*lease.Session]struct{}      // all of them
	claims   map[*Registration]claim

	listening sync.Mutex // guards listeners
	listeners map[*Server]func()
}

// listen has f called now and after each change of state of a registration, one call at a time, until
// listen is called with nil.
func (s *registrations) listen(server *Server, f func()) {
	s.listening.Lock()
	defer s.listening.Unlock()
	if f == nil {
		delete(s.listeners, server)
		return
	}
	if s.listeners == nil {
		s.listeners = make(map[*Server]func())
	}
	s.listeners[server] = f
	f()
}

// registrationChanged counts a change of state and tells who listens.
func (r *Registry) registrationChanged(key string, from, to lease.State) {
	r.metrics.registrationChanged(key, from, to)
	r.regs.listening.Lock()
	defer r.regs.listening.Unlock()
	for _, f := range r.regs.listeners {
		f()
	}
}

// claim is what a registration holds of the process's key space.
type claim struct {
	serviceKey
	leaseKeys bool // written with a layout whose key is the lease id
	session   *lease.Session
}

// start puts a registration on the session that it belongs on.
func (s *registrations) start(r *Registry, g *Registration, items []lease.Item, ttl time.Duration, paused bool) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	c := claim{
		serviceKey: serviceKey{g.key, slices.Contains(g.layouts, endpoint.LeaseSuffix)},
		leaseKeys:  slices.ContainsFunc(g.layouts, (*endpoint.Layout).LeaseInKey),
	}
	if err := s.neighbours(c); err != nil {
		return err
	}
	var own bool
	c.session, own = s.session(r, ttl, c)
	if g.handle, err = c.session.Start(items, paused); err != nil {
		return err
	}
	g.release = func(ctx context.Context) error {
		s.mu.Lock()
		delete(s.claims, g)
		if own {
			delete(s.sessions, c.session)
		}
		s.mu.Unlock()
		if own {
			return c.session.Close(ctx)
		}
		return nil
	}
	s.claims[g] = c // from now on others see it
	return nil
}

// session finds or makes the session for a claim: the one for its TTL, unless a lease would have to
// be the key of two entries.
func (s *registrations) session(r *Registry, ttl time.Duration, c claim) (session *lease.Session, own bool) {
	if s.sessions == nil {
		s.shared = make(map[time.Duration]*lease.Session)
		s.sessions = make(map[*lease.Session]struct{})
		s.claims = make(map[*Registration]claim)
	}
	shared := s.shared[ttl]
	for _, other := range s.claims {
		own = own || shared != nil && other.session == shared && other.key == c.key && other.leaseKeys && c.leaseKeys
	}
	if shared != nil && !own {
		return shared, false
	}
	session = lease.New(r.client, lease.Options{TTL: ttl, Logger: r.opts.logger, Changed: r.registrationChanged})
	s.sessions[session] = struct{}{}
	if !own {
		s.shared[ttl] = session
	}
	return session, own
}

// neighbours refuses a key whose entries could be taken for another's of this process.
func (s *registrations) neighbours(c claim) error {
	for _, other := range s.claims {
		if err := keysApart(c.serviceKey, other.serviceKey); err != nil {
			return err
		}
	}
	return nil
}

// serviceKey is a key with what its entries look like.
type serviceKey struct {
	key    string
	suffix bool // written with the lease suffix
}

// keysApart tells whether the entries of two service keys can be told apart in etcd.
func keysApart(a, b serviceKey) error {
	outer, inner := a, b
	if len(a.key) > len(b.key) {
		outer, inner = b, a
	}
	rest, ok := strings.CutPrefix(inner.key, outer.key)
	if !ok || rest == "" {
		return nil
	}
	if rest[0] == '/' {
		return fmt.Errorf("the key %q is nested under the key %q: readers of the outer one would see its entries",
			inner.key, outer.key)
	}
	if outer.suffix && '0' <= rest[0] && rest[0] <= '9' {
		return fmt.Errorf("the key %q continues the key %q, of layout %s, with a digit: its entries would look like lease ids",
			inner.key, outer.key, endpoint.LeaseSuffix)
	}
	return nil
}

// close revokes all leases at once.
func (s *registrations) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.sessions = nil
	s.mu.Unlock()
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	for i, session := range sessions {
		wg.Go(func() {
			if err := session.Close(ctx); err != nil {
				errs[i] = fmt.Errorf("etcd: %w", err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *registrations) status() []Status {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.claims))
	s.mu.Unlock()
	var statuses []Status
	for _, g := range all {
		statuses = append(statuses, g.Status())
	}
	slices.SortFunc(statuses, func(a, b Status) int { return cmp.Compare(a.Key, b.Key) })
	return statuses
}
