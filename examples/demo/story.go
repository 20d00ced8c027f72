package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// event is something that happened, after the first call by so much.
type event struct {
	after time.Duration
	text  string
}

// tell lets the things happen that the demo is about, one after the other.
func (s *show) tell(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.share, s.kill, s.drain, s.join, s.loseLeader, s.forget,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.cfg.pace):
		}
	}
	s.end()
	return nil
}

// share waits until each server has had its first call.
func (s *show) share(ctx context.Context) error {
	for _, server := range s.servers {
		if err := s.waitCalled(ctx, server); err != nil {
			return err
		}
	}
	s.happens("Three servers share the calls.")
	return nil
}

// kill ends server 1 as a power cut would.
func (s *show) kill(context.Context) error {
	victim := s.servers[0]
	s.setState(victim, "killed")
	victim.diedAt = time.Now()
	err := victim.end(os.Kill, patience)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		return fmt.Errorf("%s was not killed: %w", victim.name, err)
	}
	s.happens("%s was killed (SIGKILL). Calls under way on it are made again on another.", victim.name)
	return nil
}

// drain asks server 2 to stop.
func (s *show) drain(context.Context) error {
	leaver := s.servers[1]
	s.setState(leaver, "draining")
	asked := time.Now()
	if err := leaver.end(syscall.SIGTERM, patience); err != nil {
		return fmt.Errorf("a server that is told to stop exits with 0: %w", err)
	}
	s.setState(leaver, "drained")
	s.happens("%s was told to stop (SIGTERM). It left etcd, finished its calls and exited, all within %v.",
		leaver.name, time.Since(asked).Round(time.Millisecond))
	return nil
}

// join adds server 4.
func (s *show) join(ctx context.Context) error {
	started := time.Now()
	joiner, err := s.addServer(ctx)
	if err != nil {
		return err
	}
	if err := s.waitCalled(ctx, joiner); err != nil {
		return err
	}
	s.happens("%s was started, and had its first call within %v.",
		joiner.name, time.Since(started).Round(time.Millisecond))
	return nil
}

// loseLeader stops the etcd member that leads the others.
func (s *show) loseLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	leader, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	stopped := time.Now()
	leader.Stop()
	next, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	s.setDown(leader)
	s.happens("etcd member %d, the leader, was stopped. Member %d led on after %v.",
		s.number(leader), s.number(next), time.Since(stopped).Round(time.Millisecond))
	return nil
}

// forget waits until the killed server's lease has expired.
func (s *show) forget(ctx context.Context) error {
	victim := s.servers[0]
	err := s.waitFor(ctx, victim.name+" to leave etcd with its lease", func() bool { return !s.listed(victim) })
	if err != nil {
		return err
	}
	s.happens("%s left etcd %v after it was killed, for nobody renewed its lease of %v.", victim.name,
		s.listedFor(victim).Round(time.Millisecond), greeterv1.GreeterService_EtcdServiceDesc.LeaseTTL)
	return nil
}

// waitCalled waits until the server has answered a call.
func (s *show) waitCalled(ctx context.Context, server *server) error {
	return s.waitFor(ctx, server.name+" to be called", func() bool {
		servers, _, _ := s.load.snapshot()
		return servers[server.addr].answered > 0
	})
}

// waitFor waits until done is true, with patience.
func (s *show) waitFor(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}
