package world

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// How servers leave etcd, and stop in order.
const (
	// drainDelay is how long they serve on after they have left etcd.
	drainDelay = time.Second
	// stopTimeout is how long they then wait for calls to end.
	stopTimeout = 2 * time.Second
	// leaveTimeout is how long a call that takes them out of etcd, or puts them back, may take.
	leaveTimeout = 3 * time.Second
	// serveEnds is how long Serve may take after its context's end, with all of that.
	serveEnds = 7 * time.Second
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
	methods := []string{"Who"}
	if s.spec.Newer {
		methods = append(methods, "WhoNewer")
	}
	to.RegisterService(serviceDesc(shopName, methods...), life(s.id))
	if s.spec.Both {
		to.RegisterService(serviceDesc(userName, "Who"), life(s.id))
	}
	grpc_health_v1.RegisterHealthServer(to, s.health)
}

// publish makes the runtime.Server of the modes serve and announce.
func (s *server) publish() {
	s.server = s.registry.NewServer(s.grpc, runtime.WithDrainDelay(drainDelay), runtime.WithStopTimeout(stopTimeout))
	s.addServices(s.server)
	s.server.Publish(describe(shopName, shopKey, ""), s.options()...)
	if s.spec.Both {
		s.server.Publish(describe(userName, userKey, ""), s.options()...)
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
	s.entering = newErrand(func() error { return server.Serve(ctx, listener) })
}

// startAnnounced starts the mode announce. The announcement goes on behind it, as a main function would retry it.
func (s *server) startAnnounced(ctx context.Context) {
	s.publish()
	server, lis := s.grpc, s.listener
	go func() { _ = server.Serve(lis) }()
	s.announce(ctx)
}

func (s *server) announce(ctx context.Context) {
	server, addr := s.server, s.addr
	s.entering = newErrand(func() error {
		return s.retry(ctx, "Announce", func(ctx context.Context) error { return server.Announce(ctx, addr) })
	})
}

func (s *server) startRegistered(ctx context.Context) {
	s.addServices(s.grpc)
	server, lis := s.grpc, s.listener
	go func() { _ = server.Serve(lis) }()
	registry, addr := s.registry, s.addr
	s.entering = newErrand(func() error {
		for _, key := range s.keys() {
			err := s.retry(ctx, "Register", func(ctx context.Context) error {
				entry, err := registry.Register(ctx, key, runtime.Endpoint{Addr: addr, Zone: s.spec.Zone}, s.options()...)
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

// retry makes a call that puts the server in etcd until it returns nil, and then checks that the server is there.
func (s *server) retry(ctx context.Context, what string, call func(context.Context) error) error {
	for leaving := s.leaving; ; {
		began := time.Now()
		bounded, cancel := context.WithTimeout(ctx, enterTimeout)
		err := call(bounded)
		s.w.note("%s of %s: %v", what, s.name(), err)
		s.bound(bounded, began, what, contextOnly)
		cancel()
		if err == nil && !leaving.Load() {
			s.saidIn(what, began)
		}
		if err == nil || leaving.Load() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(enterAgain):
		}
	}
}

// want notes whether the server is meant to be in etcd.
func (s *server) want(in bool) {
	s.in = in
	s.w.observe(func(j *check.Judge) { j.Leave(s.id, !in) })
}

// wait waits until what puts the server in etcd is over. Its error is in the trace.
func (s *server) wait() {
	_ = s.entering.wait()
	s.entering = nil
}

// leave takes the server out of etcd. If the call says that it has, leave checks that.
func (s *server) leave(ctx context.Context) {
	s.want(false)
	s.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	began := time.Now()
	var err error
	switch s.spec.Mode {
	case schedule.Serve:
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		return
	case schedule.Announce:
		err = s.server.Withdraw(ctx)
		s.bound(ctx, began, "Withdraw", contextOnly)
	case schedule.Register:
		for _, entry := range s.registered() {
			err = errors.Join(err, entry.Pause(ctx))
		}
		s.bound(ctx, began, "Pause", contextOnly)
	}
	if err == nil && (s.spec.Mode == schedule.Announce || s.entered()) {
		s.saidOut("Withdraw or Pause", began)
	}
}

// entered reports whether what puts the server in etcd is over.
func (s *server) entered() bool { return s.entering == nil || s.entering.over() }

// registered returns the registrations that Register has returned.
func (s *server) registered() []*runtime.Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

// pause takes the server out of etcd for a time.
func (s *server) pause(ctx context.Context, d time.Duration) {
	s.do(func() {
		if !s.up || s.spec.Mode == schedule.Register && !s.entered() {
			return // what is not registered yet cannot be paused
		}
		s.leave(ctx)
		time.Sleep(d)
		s.enter(ctx)
	})
}

// enter puts the server in etcd again after leave.
func (s *server) enter(ctx context.Context) {
	if s.spec.Mode != schedule.Serve {
		s.wait()
	}
	s.want(true)
	s.leaving = new(atomic.Bool)
	switch s.spec.Mode {
	case schedule.Serve:
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	case schedule.Announce:
		life, cancel := context.WithCancel(ctx)
		end := s.end
		s.end = func() { cancel(); end() }
		s.announce(life)
	case schedule.Register:
		s.change(ctx, "Resume", (*runtime.Registration).Resume)
	}
}

// change makes a call of each registration. If the call returns nil, change checks that the server is in etcd.
func (s *server) change(ctx context.Context, what string, call func(*runtime.Registration, context.Context) error) {
	for _, entry := range s.registered() {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		began := time.Now()
		err := call(entry, ctx)
		s.bound(ctx, began, what, contextOnly)
		cancel()
		if err == nil && s.in {
			s.saidIn(what, began)
		}
	}
}

// update changes the weight of a registration.
func (s *server) update(ctx context.Context, weight int) {
	s.do(func() {
		if s.up {
			s.change(ctx, "Update", func(r *runtime.Registration, ctx context.Context) error {
				return r.Update(ctx, runtime.WithWeight(uint32(weight)))
			})
		}
	})
}
