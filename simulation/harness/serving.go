package harness

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
)

// How servers are put in etcd.
const (
	// enterTimeout is how long one attempt may take.
	enterTimeout = 4 * time.Second
	// enterAgain is how long they wait until the next one.
	enterAgain = 500 * time.Millisecond
)

// addServices registers the services with a gRPC server, or with a runtime.Server around it.
func (s *server) addServices(to grpc.ServiceRegistrar) {
	methods := []string{"Who", "Lead"}
	if s.spec.Newer {
		methods = append(methods, "WhoNewer")
	}
	instance := acme.Instance{Name: s.id, Led: s.candidate.serves}
	instance.Register(to, acme.ShopName, methods...)
	if s.spec.Both {
		instance.Register(to, acme.UserName, "Who")
	}
	grpc_health_v1.RegisterHealthServer(to, s.health)
}

// publish makes the runtime.Server of the modes serve and announce.
func (s *server) publish() {
	s.server = s.registry.NewServer(s.grpc, runtime.WithDrainDelay(drainDelay), runtime.WithStopTimeout(stopTimeout))
	s.addServices(s.server)
	s.server.Publish(acme.Shop(""), s.options()...)
	if s.spec.Both {
		s.server.Publish(acme.User(), s.options()...)
	}
}

// options returns the options of a registration.
func (s *server) options() []runtime.RegisterOption {
	var options []runtime.RegisterOption
	if s.spec.Named {
		options = append(options, runtime.WithInstance(s.instanceID()))
	}
	if s.spec.Version != "" {
		options = append(options, runtime.WithVersion(s.spec.Version))
	}
	if s.spec.Weight > 0 {
		options = append(options, runtime.WithWeight(s.spec.Weight))
	}
	if len(s.spec.Layouts) > 0 {
		var layouts []runtime.Layout
		for _, name := range s.spec.Layouts {
			layouts = append(layouts, layoutNamed(name))
		}
		options = append(options, runtime.WithLayouts(layouts...))
	}
	return options
}

func layoutNamed(name string) runtime.Layout {
	all := []runtime.Layout{runtime.EndpointJSON, runtime.Plain, runtime.GoZero, runtime.Kratos, runtime.Kitex}
	i := slices.IndexFunc(all, func(l runtime.Layout) bool { return l.String() == name })
	return all[i]
}

// serve starts the mode serve.
func (s *server) serve(ctx context.Context) {
	s.publish()
	server, listener := s.server, s.listener
	s.entering = newTask(func() error { return server.Serve(ctx, listener) })
}

// serveGRPC serves beside the registration, in the modes announce and register.
func (s *server) serveGRPC() {
	server, listener := s.grpc, s.listener
	go func() { _ = server.Serve(listener) }() // it returns when the server stops
}

// startAnnounced starts the mode announce. The announcement is retried in the background.
func (s *server) startAnnounced(ctx context.Context) {
	s.publish()
	s.serveGRPC()
	s.announce(ctx)
}

func (s *server) announce(ctx context.Context) {
	server, addr, leaving, keys := s.server, s.addr, s.leaving, s.keys()
	s.entering = newTask(func() error {
		announce := func(ctx context.Context) error { return server.Announce(ctx, addr) }
		return s.retry(ctx, leaving, "Announce", announce, keys...)
	})
}

// startRegistered starts the mode register. The registrations are retried in the background.
func (s *server) startRegistered(ctx context.Context) {
	s.addServices(s.grpc)
	s.serveGRPC()
	registry, leaving, keys := s.registry, s.leaving, s.keys()
	endpoint, options := runtime.Endpoint{Addr: s.addr, Zone: s.spec.Zone}, s.options()
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
			if err := s.retry(ctx, leaving, "Register", register, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// errLeaves is why a server is not put in etcd.
var errLeaves = errors.New("the server leaves")

// retry makes a call that puts the server in etcd under keys until it returns nil or the server leaves, and then checks that the
// server is there. It runs in the background, and a killed server's may run into the next life, so it is given what it needs of its own.
func (s *server) retry(ctx context.Context, leaving *atomic.Bool, what string, call func(context.Context) error, keys ...string) error {
	for !leaving.Load() {
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, enterTimeout)
		err := call(bounded)
		s.w.Note("%s of %s: %v", what, s.name(), err)
		s.bound(bounded, began, what, record.ContextOnly)
		cancel()
		if err == nil && !leaving.Load() {
			s.saidIn(what, began, keys...)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(enterAgain):
		}
	}
	return errLeaves
}
