package worstday

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// candidate is a process that wants to lead.
type candidate struct {
	leads func() bool
	end   func(context.Context) error // resigns
}

// handOver makes the leader resign while another candidate waits. Plain code
// uses etcd's own concurrency.Election.
func handOver(c *cell) {
	var first, second [2]candidate
	for side, start := range []func(string) candidate{c.ourCandidate, c.plainCandidate} {
		first[side] = start("a")
		kit.Eventually(c.t, "the first candidate to lead", first[side].leads)
		second[side] = start("b")
	}

	c.meet()

	took := [2]time.Duration{never, never}
	var errs [2]error

	var running sync.WaitGroup
	for side := range took {
		running.Go(func() { errs[side] = first[side].end(kit.Bounded(c.t, 25*time.Second)) })
		running.Go(func() {
			if until(c.start.Add(c.fault.lasts+25*time.Second), second[side].leads) {
				took[side] = time.Since(c.start)
			}
		})
	}

	running.Wait()
	<-c.over
	c.compareTime("the next leads", took[us], took[them], c.fault.luck)
	c.figure("the end: %v, plain %v", errs[us], errs[them])

	if errs[us] != nil && errs[them] == nil {
		c.complain("the leader's end fails: %.200v", errs[us])
	}

	for side := range second {
		_ = second[side].end(kit.Bounded(c.t, 5*time.Second))
	}
}

func (c *cell) ourCandidate(name string) candidate {
	client, _ := c.client()
	o := c.newOurs(client, c.prefix("ours"))

	desc := leaderpb.Counter_EtcdServiceDesc
	desc.LeaseTTL = 15 * time.Second
	server := o.registry.NewServer(grpc.NewServer())
	leaderpb.RegisterCounterServer(server, leaderpb.UnimplementedCounterServer{})
	server.Publish(&desc)
	leadership := leader.Of(server, &desc)
	kit.Must(c.t, server.Announce(kit.Context(c.t), name+":1"))

	leads := func() bool {
		_, ok := leadership.Token()
		return ok
	}

	return candidate{leads, o.end}
}

func (c *cell) plainCandidate(name string) candidate {
	client, _ := c.client()
	session, err := concurrency.NewSession(client, concurrency.WithTTL(15))
	kit.Must(c.t, err)
	c.t.Cleanup(session.Orphan)

	election := concurrency.NewElection(session, c.prefix("plain"))
	var won atomic.Bool
	kit.Run(c.t, func(ctx context.Context) error {
		for ctx.Err() == nil && !won.Load() {
			won.Store(election.Campaign(ctx, name) == nil)
		}

		return nil
	})

	end := func(ctx context.Context) error {
		return c.fault.ends().do(ctx, revoke(client, session.Lease()))
	}

	return candidate{won.Load, end}
}
