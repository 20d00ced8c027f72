package runtime

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// serveHealth registers gRPC's own health service where there is none. Nobody but this server sets
// it, so there is nothing to follow.
func (s *Server) serveHealth() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc == nil || s.gate.health != nil {
		return
	}
	info := s.grpc.GetServiceInfo()
	if _, ok := info[healthpb.Health_ServiceDesc.ServiceName]; ok {
		return
	}
	own := health.NewServer()
	for service := range info {
		own.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(s.grpc, own)
	s.gate.own = own
}

// RegistrationHealth is the name for which gRPC's health service tells whether a server's entries
// are in etcd.
const RegistrationHealth = "etcd"

// tieHealth has the health service tell, under a name of its own, whether the entries are in etcd.
func (s *Server) tieHealth() {
	setter := s.gate.setter()
	if setter == nil {
		return
	}
	s.registry.regs.listen(s, func() {
		status := healthpb.HealthCheckResponse_SERVING
		for _, g := range s.registrations() {
			if g.Status().State != StateRegistered {
				status = healthpb.HealthCheckResponse_NOT_SERVING
			}
		}
		setter.SetServingStatus(RegistrationHealth, status)
	})
}

// untieHealth ends tieHealth, for a server that is withdrawn.
func (s *Server) untieHealth() {
	if s.registry == nil {
		return
	}
	s.registry.regs.listen(s, nil)
	if setter := s.gate.setter(); setter != nil {
		setter.SetServingStatus(RegistrationHealth, healthpb.HealthCheckResponse_NOT_SERVING)
	}
}

// statusSetter is what gRPC's own health server has.
type statusSetter interface {
	SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus)
}

// healthGate follows a gRPC health service of this process, and tells which services are healthy.
// A service that the health service does not know is as healthy as the whole server, whose name is
// "". Its methods run under the server's lock.
type healthGate struct {
	health healthpb.HealthServer // the caller's; nil: everything is healthy
	own    *health.Server        // registered for want of the caller's
	status map[string]healthpb.HealthCheckResponse_ServingStatus
}

// setter is where to set a status, nil where that cannot be.
func (g *healthGate) setter() statusSetter {
	if g.own != nil {
		return g.own
	}
	setter, _ := g.health.(statusSetter)
	return setter
}

// serving tells whether a service is healthy, as far as known.
func (g *healthGate) serving(service string) bool {
	status, known := g.status[service]
	if !known || status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN || status == healthpb.HealthCheckResponse_UNKNOWN {
		status = g.status[""]
	}
	return status != healthpb.HealthCheckResponse_NOT_SERVING
}

// check asks for the status of services now.
func check(ctx context.Context, health healthpb.HealthServer, services []string) map[string]healthpb.HealthCheckResponse_ServingStatus {
	found := make(map[string]healthpb.HealthCheckResponse_ServingStatus)
	if health == nil {
		return found
	}
	for _, service := range services {
		if resp, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: service}); err == nil {
			found[service] = resp.GetStatus()
		}
	}
	return found
}

// follow reports the status of a service now and at each change, until ctx ends.
func follow(ctx context.Context, health healthpb.HealthServer, service string, report func(healthpb.HealthCheckResponse_ServingStatus)) {
	// An implementation without Watch leaves it at the status that Check gave.
	_ = health.Watch(&healthpb.HealthCheckRequest{Service: service}, &healthStream{ctx: ctx, report: report})
}

// shutdown turns everything NOT_SERVING for good, where the implementation can: grpc's own can.
func (g *healthGate) shutdown() {
	if g.own != nil {
		g.own.Shutdown()
	}
	if h, ok := g.health.(interface{ Shutdown() }); ok {
		h.Shutdown()
	}
}

// healthStream is a call of Watch that never leaves the process.
type healthStream struct {
	ctx    context.Context
	report func(healthpb.HealthCheckResponse_ServingStatus)
}

var _ grpc.ServerStreamingServer[healthpb.HealthCheckResponse] = (*healthStream)(nil)

func (s *healthStream) Send(resp *healthpb.HealthCheckResponse) error {
	s.report(resp.GetStatus())
	return s.ctx.Err()
}

func (s *healthStream) Context() context.Context     { return s.ctx }
func (s *healthStream) SetHeader(metadata.MD) error  { return nil }
func (s *healthStream) SendHeader(metadata.MD) error { return nil }
func (s *healthStream) SetTrailer(metadata.MD)       {}
func (s *healthStream) RecvMsg(any) error            { return s.ctx.Err() }

func (s *healthStream) SendMsg(m any) error {
	if resp, ok := m.(*healthpb.HealthCheckResponse); ok {
		return s.Send(resp)
	}
	return s.ctx.Err()
}

// healthy tells whether all services of an entry are.
func (s *Server) healthy(p *publication) bool {
	return !slices.ContainsFunc(p.services, func(service string) bool { return !s.gate.serving(service) })
}

func (s *Server) watchedServices() []string {
	services := []string{""}
	for _, p := range s.published {
		services = append(services, p.services...)
	}
	return services
}

// followHealth takes entries out of etcd while they are not healthy, until Withdraw or the end of the
// registry.
func (s *Server) followHealth() {
	if s.gate.health == nil {
		return
	}
	ctx, cancel := context.WithCancel(s.registry.ctx)
	s.unfollow = cancel
	for _, service := range s.watchedServices() {
		go follow(ctx, s.gate.health, service, func(status healthpb.HealthCheckResponse_ServingStatus) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			s.gate.status[service] = status
			for _, p := range s.published {
				_ = p.reg.handle.SetPaused(!s.healthy(p)) // an error: it is closed
			}
		})
	}
}
