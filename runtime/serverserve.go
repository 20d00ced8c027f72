package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listener"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// handlerTimeout bounds the wait for handlers whose calls were cut.
const handlerTimeout = time.Second

// Serve serves on lis until ctx ends, and keeps the published services in etcd
// until then. It closes lis. It announces the services in the background, so
// that it serves even while etcd cannot be reached.
//
// When ctx ends, Serve drains. It sets NOT_SERVING in the health service. That
// status stays, unless another server of the registry with the same health
// service serves the services later: its Serve sets SERVING. Serve withdraws
// the services within 5 s, and waits for the drain delay, so that callers
// notice. A leader refuses new leader calls, and resigns when those under way
// have ended. It waits for them at most 4 s, and at most half of the stop
// timeout. Calls may finish within the stop timeout, and are then cut. Serve
// returns nil after a clean drain, and otherwise an error that says which steps
// or calls were cut short. If the gRPC server fails, Serve drains without the
// delay, and returns that error.
//
// Serve can be called once.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if lis == nil {
		return errors.New("etcd: Serve was given a nil listener")
	}

	run, err := s.group.Begin()
	if err != nil {
		lis.Close()
		return err
	}

	s.mu.Lock()
	s.health.serve(s.grpc, s.grpc.GetServiceInfo(), s.group)
	s.mu.Unlock()

	var background sync.WaitGroup
	defer background.Wait()
	defer s.group.Ended()

	listen := lis.Addr().String()
	network := lis.Addr().Network()
	served := make(chan error, 1)
	lis, conns := listener.Watch(lis)

	// the goroutine is abandoned if a handler does not end
	go func() { served <- s.grpc.Serve(lis) }()
	failed := make(chan error, 1)
	background.Go(func() { // ends with ctx or the run
		err := run.Announce(ctx, s.announcement(listen, network), s.opts.announceTimeout)
		if err != nil {
			failed <- err
		}
	})

	select {
	case err = <-served:
		// drain reads this nil in place of the result, and ends the calls that
		// a failed listener leaves open
		served <- nil

	case err = <-failed:
	case <-ctx.Done():
	}

	return errors.Join(err, s.drain(ctx, served, conns))
}

// Announce puts the published services in etcd for a server that the caller
// serves. It returns when all healthy services are there. If the announcement
// fails, Announce returns an error and removes the entries already written, in
// the background if ctx has ended. addr is the address of the listener, as its
// method Addr returns it. The address to announce is found as for Serve: see
// [WithAdvertiseAddress].
//
// A Withdraw during Announce makes Announce return an error. A second Announce
// without a Withdraw between is an error.
func (s *Server) Announce(ctx context.Context, addr string) error {
	if err := s.group.Faults(); err != nil {
		return err
	}

	return s.group.Announce(ctx, s.announcement(addr, ""))
}

// announcement returns the configuration of an announcement for a server that
// listens on listen. network is "" if it is not known.
func (s *Server) announcement(listen, network string) registrar.RunConfig {
	s.mu.Lock()
	defer s.mu.Unlock()

	methods := make(map[string][]string)
	for service, info := range s.grpc.GetServiceInfo() {
		names := make([]string, len(info.Methods))
		for i, m := range info.Methods {
			names[i] = m.Name
		}

		methods[service] = names
	}

	return registrar.RunConfig{
		Listen:  listen,
		Methods: methods,
		Health:  s.health.given,
		Problem: s.health.problem(methods),
		Report:  s.health.reporter(),
		Advertise: advertise.Config{
			Option:  s.opts.advertise,
			Env:     os.Getenv(advertise.EnvName),
			Etcd:    s.registry.configured,
			Network: network,
		},
	}
}

// Withdraw removes the services from etcd, and returns when they are removed. A
// leader resigns as when Serve drains. If ctx ends or 5 s pass first, the error
// names the entries that are left to expire. The server goes on serving calls.
// Announce may be called again after Withdraw. If Announce is called during
// Withdraw, Withdraw returns an error.
func (s *Server) Withdraw(ctx context.Context) error {
	return s.group.Withdraw(ctx)
}

// drain withdraws the services, and stops the gRPC server.
func (s *Server) drain(
	ctx context.Context,
	served chan error,
	conns *listener.Conns,
) error {
	// End precedes health.drain: otherwise NOT_SERVING would pause the entries
	s.group.End()
	s.health.drain(s.group)
	errs := []error{s.group.Withdraw(context.WithoutCancel(ctx))} // ctx has ended

	if len(s.Status()) > 0 {
		select {
		case <-time.After(s.opts.drainDelay):
		case err := <-served: // the gRPC server has ended, so no client can connect
			served <- nil
			errs = append(errs, err)
		}
	}

	return errors.Join(append(errs, s.stop(served, conns))...)
}

// stopWithin is the time in which a server without open calls stops.
const stopWithin = 100 * time.Millisecond

// stop waits until open calls have finished, but only for the stop timeout, or
// for stopWithin if that is longer. Then it cuts the calls. GracefulStop and
// Stop may never return: both wait for connections without a handshake, and for
// handlers.
func (s *Server) stop(served <-chan error, conns *listener.Conns) error {
	s.health.endWatch()
	bound := max(s.opts.stopTimeout, stopWithin)

	// not at once: first calls may be on their way
	silent := time.AfterFunc(min(bound/2, 500*time.Millisecond), conns.CloseSilent)
	defer silent.Stop()

	stopped := make(chan error, 1)
	go func() {
		s.grpc.GracefulStop()
		stopped <- <-served
	}()

	var err, cut error
	select {
	case err = <-stopped:
	case <-time.After(bound):
		cut = fmt.Errorf("etcd: connections or calls that were open %v after the server stopped taking new ones were cut: %w",
			bound.Round(time.Millisecond), context.DeadlineExceeded)
		conns.Close()

		// makes GracefulStop return, too, unless a handler does not end with
		// its context
		go s.grpc.Stop()

		select {
		case err = <-stopped:
		case <-time.After(handlerTimeout):
		}
	}

	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}

	return errors.Join(cut, err)
}
