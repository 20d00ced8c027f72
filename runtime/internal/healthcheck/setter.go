package healthcheck

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// setWait bounds the wait for a health service of the caller's.
const setWait = 100 * time.Millisecond

// StatusSetter is a health service that can be told the status of a service, such as gRPC's own.
type StatusSetter interface {
	healthpb.HealthServer
	SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus)
}

// Setter tells statuses to a health service that may be the caller's, and so may wait or panic. Its
// methods are safe for concurrent use.
type Setter struct {
	server StatusSetter
	shares *Shares
	logger *slog.Logger

	mu      sync.Mutex
	waiting map[string]func(service string) // what is to be told last, by service
	idle    chan struct{}                   // closed when everything is told
	stuck   bool                            // the health service has made wait wait in vain

	before map[string]servingStatus // of the services that are turned, by service; for tell alone
}

// NewSetter returns a setter for a health service. It starts nothing.
func (s *Shares) NewSetter(server StatusSetter, logger *slog.Logger) *Setter {
	return &Setter{
		server: server, shares: s, logger: logger, waiting: make(map[string]func(string)), before: make(map[string]servingStatus),
	}
}

// Set tells the status of services. It returns when that is done, or after a moment if the health service
// waits; the latest statuses are told when it goes on.
func (s *Setter) Set(status healthpb.HealthCheckResponse_ServingStatus, services ...string) {
	s.put(func(service string) { s.server.SetServingStatus(service, status) }, services...)
	s.wait()
}

// Turn turns services NOT_SERVING until Restore, or until another server follows them at the health service; not those that one
// follows already. It waits as Set does.
func (s *Setter) Turn(services ...string) {
	s.shares.change(s.server, services, func(u *usage, service string) {
		if *u == (usage{}) {
			u.turned = s
			s.put(s.turn, service)
		}
	})
	s.wait()
}

// Restore sets back what Turn has set, unless it has changed since. It waits as Set does.
func (s *Setter) Restore(services ...string) {
	s.shares.change(s.server, services, func(u *usage, service string) {
		if u.turned == s {
			u.restore(service)
		}
	})
	s.wait()
}

func (s *Setter) turn(service string) {
	if now := s.now(service); now != notServing {
		s.before[service] = now
		s.server.SetServingStatus(service, notServing)
	}
}

func (s *Setter) restore(service string) {
	if before, ok := s.before[service]; ok && s.now(service) == notServing {
		s.server.SetServingStatus(service, before)
	}
	delete(s.before, service)
}

// now returns the status of a service, as far as the health service says it.
func (s *Setter) now(service string) servingStatus {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	now := unknown
	_ = guard(func() error { // an error: the service is not known
		resp, err := s.server.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err == nil {
			now = resp.GetStatus()
		}
		return err
	})
	return now
}

// put has something told of services, in place of what waits to be told of them.
func (s *Setter) put(tell func(service string), services ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, service := range services {
		s.waiting[service] = tell
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.tell() // ends when everything is told
	}
}

// wait returns when everything is told, or after a moment.
func (s *Setter) wait() {
	s.mu.Lock()
	idle, stuck := s.idle, s.stuck
	s.mu.Unlock()
	if idle == nil || stuck {
		return
	}
	timer := time.NewTimer(setWait)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stuck = s.idle == idle
	}
}

// tell tells what waits, until nothing does.
func (s *Setter) tell() {
	for {
		s.mu.Lock()
		waiting := maps.Clone(s.waiting)
		clear(s.waiting)
		if len(waiting) == 0 {
			close(s.idle)
			s.idle, s.stuck = nil, false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for service, tell := range waiting {
			s.tellOne(service, tell)
		}
	}
}

func (s *Setter) tellOne(service string, tell func(service string)) {
	defer func() {
		if r := recover(); r != nil {
			s.logger.Error("the health service panics", "method", "SetServingStatus", "service", service, "panic", fmt.Sprint(r))
		}
	}()
	tell(service)
}
