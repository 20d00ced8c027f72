package healthcheck

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// setWait bounds the time that Set waits for a health service of the caller's.
const setWait = 100 * time.Millisecond

// StatusSetter is a health service that can be told the status of a service, such as gRPC's own.
type StatusSetter interface {
	SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus)
}

// Setter tells statuses to a health service that may be the caller's, and so may wait or panic. Its
// methods are safe for concurrent use.
type Setter struct {
	server StatusSetter
	logger *slog.Logger

	mu      sync.Mutex
	waiting map[string]healthpb.HealthCheckResponse_ServingStatus // the latest that is to be told, by service
	idle    chan struct{}                                         // closed when everything is told
	stuck   bool                                                  // the health service has made Set wait in vain
}

// NewSetter returns a setter for a health service. It starts nothing.
func NewSetter(server StatusSetter, logger *slog.Logger) *Setter {
	return &Setter{server: server, logger: logger, waiting: make(map[string]healthpb.HealthCheckResponse_ServingStatus)}
}

// Set tells the status of services. It returns when that is done, or after a moment if the health service
// waits; the latest statuses are told when it goes on.
func (s *Setter) Set(status healthpb.HealthCheckResponse_ServingStatus, services ...string) {
	s.mu.Lock()
	for _, service := range services {
		s.waiting[service] = status
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.tell() // ends when everything is told
	}
	idle, stuck := s.idle, s.stuck
	s.mu.Unlock()
	if stuck {
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
		statuses := maps.Clone(s.waiting)
		clear(s.waiting)
		if len(statuses) == 0 {
			close(s.idle)
			s.idle, s.stuck = nil, false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for service, status := range statuses {
			s.tellOne(service, status)
		}
	}
}

func (s *Setter) tellOne(service string, status healthpb.HealthCheckResponse_ServingStatus) {
	defer func() {
		if r := recover(); r != nil {
			s.logger.Error("the health service panics", "method", "SetServingStatus", "service", service, "panic", fmt.Sprint(r))
		}
	}()
	s.server.SetServingStatus(service, status)
}
