package harness

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// How servers enter etcd.
const (
	// enterTimeout bounds an attempt to enter etcd.
	enterTimeout = 4 * time.Second

	// enterAgain and enterLater are alternating waits before the next attempt.
	// During the longer one, leftovers of a failed attempt are noticed.
	enterAgain, enterLater = 500 * time.Millisecond, 5 * time.Second

	// soon bounds a call that changes etcd while there are no faults. The
	// delays of messages come on top.
	soon = time.Second
)

// addServices registers the services with a gRPC server, or with a
// runtime.Server around it.
func (s *server) addServices(to grpc.ServiceRegistrar) {
	instance := fixtures.Instance{Name: s.id, Led: s.candidate.serves}
	instance.Register(to, fixtures.ShopName, s.methods()...)

	if s.spec.Both {
		instance.Register(to, fixtures.UserName, "Who")
	}

	grpc_health_v1.RegisterHealthServer(to, s.health)
}

// publish makes the runtime.Server of the modes serve and announce.
func (s *server) publish() {
	server := s.registry.NewServer(s.grpc, runtime.WithDrainDelay(drainDelay),
		runtime.WithStopTimeout(stopTimeout))

	s.mu.Lock()
	s.server = server
	s.mu.Unlock()

	s.addServices(s.server)

	published := []*runtime.ServiceDesc{fixtures.Shop("")}
	if s.spec.Both {
		published = append(published, fixtures.User())
	}

	for _, desc := range published {
		desc.LeaseTTL = s.w.schedule.LeaseTTL()
		s.server.Publish(desc, s.options()...)
	}
}

// options returns the options of a registration.
func (s *server) options() []runtime.RegisterOption {
	options := []runtime.RegisterOption{
		runtime.WithVersion(s.spec.Version),
		runtime.WithWeight(s.spec.Weight),
	}
	if s.named != "" {
		options = append(options, runtime.WithInstance(s.named))
	}

	var layouts []runtime.Layout
	for _, name := range s.spec.Layouts {
		layout := endpoint.Public(schedule.LayoutNamed(name))
		layouts = append(layouts, layout.(runtime.Layout))
	}

	if len(layouts) > 0 {
		options = append(options, runtime.WithLayouts(layouts...))
	}

	return options
}

// serveGRPC serves with the gRPC server alone, in the modes announce and
// register.
func (s *server) serveGRPC() {
	server := s.grpc
	listener := s.listener
	go func() { _ = server.Serve(listener) }() // Serve returns when the server stops
}

// announce starts to put the server in etcd, in the mode announce.
func (s *server) announce() {
	server := s.server
	addr := s.addr
	keys := s.keys()
	retry := s.attempt("Announce")
	announce := func(ctx context.Context) error { return server.Announce(ctx, addr) }
	s.entering = newTask(func() error { return retry(announce, keys...) })
}

// register starts to put the server in etcd, in the mode register.
func (s *server) register() {
	registry := s.registry
	endpoint := runtime.Endpoint{Addr: s.addr, Zone: s.spec.Zone}
	options := s.options()
	keys := s.keys()
	retry := s.attempt("Register")

	s.entering = newTask(func() error {
		for _, key := range keys {
			register := func(ctx context.Context) error {
				entry, err := registry.Register(ctx, key, endpoint, options...)
				if err == nil {
					s.mu.Lock()
					defer s.mu.Unlock()

					s.entries = append(s.entries, entry)
				}

				return err
			}

			if err := retry(register, key); err != nil {
				return err
			}
		}

		return nil
	})
}

// errWithdrawn ends the attempts of a server that withdraws.
var errWithdrawn = errors.New("the server leaves")

// retry repeats a call that puts an incarnation in etcd for the services keys.
type retry func(call func(context.Context) error, keys ...string) error

// attempt returns a retry that ends when the call returns nil, or the server
// withdraws or ends. It has copies of the server's fields, because it may still
// run during the next incarnation.
func (s *server) attempt(what string) retry {
	ctx := s.ctx
	act := check.Act{What: what, Who: s.id, Soon: soon}
	stop := s.stopEntering

	return func(call func(context.Context) error, keys ...string) error {
		lacks := func() string { return s.lacks(keys...) }

		for again := enterAgain; ; again = enterAgain + enterLater - again {
			if stop.Load() {
				return errWithdrawn
			}

			bounded, cancel := context.WithTimeout(ctx, enterTimeout)
			err := s.w.act(bounded, act, call, lacks)
			cancel()

			if err == nil {
				return nil
			}

			if !pause(ctx, again) {
				return ctx.Err()
			}
		}
	}
}
