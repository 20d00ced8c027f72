package harness

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// How servers are put in etcd.
const (
	// enterTimeout is how long one attempt may take.
	enterTimeout = 4 * time.Second
	// enterAgain and enterLater are how long they wait until the next one, in turns: what one has left behind shows in the longer
	// one.
	enterAgain, enterLater = 500 * time.Millisecond, 5 * time.Second
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
	server := s.registry.NewServer(s.grpc, runtime.WithDrainDelay(drainDelay), runtime.WithStopTimeout(stopTimeout))
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	s.addServices(s.server)
	published := []*runtime.ServiceDesc{acme.Shop("")}
	if s.spec.Both {
		published = append(published, acme.User())
	}
	for _, desc := range published {
		desc.LeaseTTL = s.w.plan.LeaseTTL()
		s.server.Publish(desc, s.options()...)
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
	layout, err := endpoint.LayoutByName(name)
	if err != nil {
		panic(err) // a schedule that is not valid
	}
	return endpoint.Public(layout).(runtime.Layout)
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
	server, addr, try := s.server, s.addr, s.attempt("Announce", s.keys()...)
	s.entering = newTask(func() error {
		return try.retry(ctx, func(ctx context.Context) error { return server.Announce(ctx, addr) })
	})
}

// startRegistered starts the mode register. The registrations are retried in the background.
func (s *server) startRegistered(ctx context.Context) {
	s.addServices(s.grpc)
	s.serveGRPC()
	s.register(ctx)
}

func (s *server) register(ctx context.Context) {
	registry, endpoint, options := s.registry, runtime.Endpoint{Addr: s.addr, Zone: s.spec.Zone}, s.options()
	var tries []attempt
	for _, key := range s.keys() {
		tries = append(tries, s.attempt("Register", key))
	}
	s.entering = newTask(func() error {
		for _, try := range tries {
			err := try.retry(ctx, func(ctx context.Context) error {
				entry, err := registry.Register(ctx, try.keys[0], endpoint, options...)
				if err == nil {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.entries = append(s.entries, entry)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// errLeaves is why a server is not put in etcd.
var errLeaves = errors.New("the server leaves")

// attempt is a call that puts a life of a server in etcd under keys. It goes on in the background, and that of a killed server may
// run into the next life, so it has what it needs of its own.
type attempt struct {
	s       *server
	what    string
	keys    []string
	id      string
	leaving *departure
}

func (s *server) attempt(what string, keys ...string) attempt {
	return attempt{s, what, keys, s.id, s.leaving}
}

// retry makes the call until it returns nil or the server leaves.
func (a attempt) retry(ctx context.Context, call func(context.Context) error) error {
	for again := enterAgain; ; again = enterAgain + enterLater - again {
		if left, _ := a.leaving.begun(); !left.IsZero() {
			return errLeaves
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, enterTimeout)
		err := call(bounded)
		a.done(bounded, began, err)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again):
		}
	}
}

// done records how a call has ended. It may have been ended by another that takes the server out of etcd, and then returns an error.
func (a attempt) done(ctx context.Context, began time.Time, err error) {
	act := check.Act{What: a.what, Who: a.id, Began: began, Err: err}
	left, by := a.leaving.begun()
	switch {
	case by == "death":
	case left.IsZero() || err == nil && by == "":
		act.Soon, act.Wrong = soon, a.s.notIn(a.keys...)
	case err == nil && left.Before(time.Now()): // at one instant either may have been first
		a.s.w.report(check.Returns, "%s of %s returned nil %v after %s had begun", a.what, a.id, time.Since(left), by)
	}
	a.s.w.acted(ctx, contextOnly, act)
}
