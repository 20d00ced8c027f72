package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// event is a line of the story, with the time since the first call.
type event struct {
	after time.Duration
	text  string
}

// play runs the steps of the demo, one after the other.
func (d *demo) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.share, d.kill, d.drain, d.join, d.loseLeader, d.expire,
	} {
		if err := step(ctx); err != nil {
			return err
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d.cfg.pace):
		}
	}

	d.end()

	return nil
}

// share waits until each server has had its first call.
func (d *demo) share(ctx context.Context) error {
	for _, server := range d.servers {
		if err := d.waitCalled(ctx, server); err != nil {
			return err
		}
	}

	d.happens("Three servers share the calls.")

	return nil
}

// kill kills server 1, which resembles a power cut.
func (d *demo) kill(context.Context) error {
	victim := d.servers[0]
	d.setState(victim, "killed")
	victim.diedAt = time.Now()
	err := victim.End(os.Kill, patience)

	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() {
		return fmt.Errorf("%s was not killed: %w", victim.Name, err)
	}

	d.happens(
		"%s was killed (SIGKILL). Calls under way on it are made again on another.",
		victim.Name)

	return nil
}

// drain asks server 2 to stop.
func (d *demo) drain(context.Context) error {
	server := d.servers[1]
	d.setState(server, "draining")
	asked := time.Now()

	if err := server.End(syscall.SIGTERM, patience); err != nil {
		return fmt.Errorf("%s did not exit with 0 after SIGTERM: %w", server.Name, err)
	}

	d.setState(server, "drained")
	d.happens("%s was told to stop (SIGTERM). It left etcd, finished its calls and exited, all within %v.",
		server.Name, time.Since(asked).Round(time.Millisecond))

	return nil
}

// join adds server 4.
func (d *demo) join(ctx context.Context) error {
	started := time.Now()

	joiner, err := d.addServer(ctx)
	if err != nil {
		return err
	}

	if err := d.waitCalled(ctx, joiner); err != nil {
		return err
	}

	d.happens("%s was started, and had its first call within %v.",
		joiner.Name, time.Since(started).Round(time.Millisecond))

	return nil
}

// loseLeader stops the etcd member that leads.
func (d *demo) loseLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	leader, err := d.cluster.Leader(ctx)
	if err != nil {
		return err
	}

	stopped := time.Now()
	leader.Stop()

	next, err := d.cluster.Leader(ctx)
	if err != nil {
		return err
	}

	d.mu.Lock()
	d.down[d.number(leader)] = true
	d.mu.Unlock()

	d.happens("etcd member %d, the leader, was stopped. Member %d led on after %v.",
		d.number(leader), d.number(next), time.Since(stopped).Round(time.Millisecond))

	return nil
}

// expire waits until the killed server's lease has expired.
func (d *demo) expire(ctx context.Context) error {
	victim := d.servers[0]

	var lost time.Time
	expired := func(context.Context) (bool, error) {
		d.mu.Lock()
		defer d.mu.Unlock()

		lost = d.lost[victim.Addr]

		return !d.inEtcd[victim.Addr], nil
	}

	err := show.Until(ctx, victim.Name+" leaves etcd with its lease", expired)
	if err != nil {
		return err
	}

	d.happens("%s left etcd %v after it was killed, for nobody renewed its lease of %v.",
		victim.Name, lost.Sub(victim.diedAt).Round(time.Millisecond),
		greeterv1.GreeterService_EtcdServiceDesc.LeaseTTL)

	return nil
}

// waitCalled waits until the server has answered a call.
func (d *demo) waitCalled(ctx context.Context, server *server) error {
	called := func(context.Context) (bool, error) {
		servers, _, _ := d.load.snapshot()
		return servers[server.Addr].answered > 0, nil
	}

	return show.Until(ctx, server.Name+" is called", called)
}
