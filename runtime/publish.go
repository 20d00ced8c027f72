package runtime

import (
	"fmt"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// publication is one entry: all services of one key.
type publication struct {
	key      string
	services []string
	layouts  []*endpoint.Layout
	leaseTTL time.Duration
	opts     []RegisterOption
	reg      *Registration // nil before the first announcement
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
