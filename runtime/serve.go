package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
)

// withdrawTimeout bounds the wait for etcd while a server drains.
const withdrawTimeout = 3 * time.Second

// Serve serves on lis, which it closes, until ctx ends, and announces the published services for
// as long: in the background and without end, so that it serves even while etcd is away.
//
// When ctx ends it drains: the health service turns NOT_SERVING, the services are withdrawn, which
// takes 3 s at the most, callers get the drain delay to hear of it, calls get the stop timeout to
// finish, and what is left is cut. Serve returns nil after a clean drain, and an error that wraps
// what was cut short otherwise. When the gRPC server fails, it withdraws and returns that error.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if lis == nil {
		return errors.New("etcd: Serve was given a nil listener")
	}
	if err := s.startServing(ctx, lis); err != nil {
		lis.Close()
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(lis) }()
	var err error
	select {
	case err = <-served:
		err = errors.Join(err, s.withdraw(ctx))
	case err = <-s.overdue(ctx):
		err = errors.Join(err, s.drain(ctx, served))
	case <-ctx.Done():
		err = s.drain(ctx, served)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, errors.Join(s.errs...))
}

// overdue tells when the services should have been announced and were not; never without
// WithAnnounceTimeout.
func (s *Server) overdue(ctx context.Context) <-chan error {
	if s.opts.announceTimeout <= 0 {
		return nil
	}
	late := make(chan error, 1)
	go func() { // ends with the timeout, with ctx or with the registrations
		bounded, cancel := context.WithTimeout(ctx, s.opts.announceTimeout)
		defer cancel()
		for _, g := range s.registrations() {
			if err := g.sync(bounded, "announce"); err != nil {
				if ctx.Err() == nil {
					late <- err
				}
				return
			}
		}
	}()
	return late
}

func (s *Server) startServing(ctx context.Context, lis net.Listener) error {
	s.mu.Lock()
	again := s.served
	s.served = true
	s.mu.Unlock()
	if again {
		return errors.New("etcd: the server has been served: make another for another listener")
	}
	s.serveHealth()
	if err := s.start(ctx, lis.Addr().String()); err != nil {
		return err
	}
	s.tieHealth()
	return nil
}

func (s *Server) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	return s.Withdraw(ctx)
}

// drain ends a server that serves.
func (s *Server) drain(ctx context.Context, served <-chan error) error {
	s.stopFollowing() // what comes next is no reason to pause
	s.gate.shutdown()
	errs := []error{s.withdraw(ctx)}
	if len(s.registrations()) > 0 {
		delay := time.NewTimer(s.opts.drainDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case err := <-served: // there is nothing left to drain
			return errors.Join(append(errs, err)...)
		}
	}
	errs = append(errs, s.stop())
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stop waits for open calls to finish, but not for ever.
func (s *Server) stop() error {
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	timeout := time.NewTimer(s.opts.stopTimeout)
	defer timeout.Stop()
	select {
	case <-stopped:
		return nil
	case <-timeout.C:
		s.grpc.Stop() // makes GracefulStop return, too
		<-stopped
		return fmt.Errorf("etcd: calls that were open %v after the server stopped taking new ones were cut: %w",
			s.opts.stopTimeout, context.DeadlineExceeded)
	}
}
