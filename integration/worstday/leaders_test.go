package worstday

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// candidate is a process that stands for election.
type candidate interface {
	leads() bool
	end(ctx context.Context) error // resigns
}

// handOver ends the leader, for which another candidate waits. Plain code uses etcd's own concurrency.Election.
func handOver(c *cell) {
	stand := map[string]func(string) candidate{"ours": c.ourCandidate, "plain": c.plainCandidate}
	var first, second [2]candidate
	for i, side := range []string{"ours", "plain"} {
		first[i] = stand[side]("a")
		kit.Eventually(c.t, kit.Soon, "the first candidate to lead", first[i].leads)
		second[i] = stand[side]("b")
	}
	c.meet()
	took := [2]time.Duration{never, never}
	var errs [2]error
	var sides sync.WaitGroup
	for i := range took {
		sides.Go(func() { errs[i] = first[i].end(kit.Bounded(c.t, 25*time.Second)) })
		sides.Go(func() {
			for deadline := c.start.Add(c.fault.lasts + 25*time.Second); time.Now().Before(deadline); time.Sleep(20 * ms) {
				if second[i].leads() {
					took[i] = time.Since(c.start)
					return
				}
			}
		})
	}
	sides.Wait()
	<-c.over
	c.figure("the next leads after %s, plain %s; the end: %v, plain %v", seconds(took[0]), seconds(took[1]), errs[0], errs[1])
	c.compareTime("the next leads", took[0], took[1], c.fault.luck)
	if errs[0] != nil && errs[1] == nil {
		c.complain("the leader's end fails: %.200v", errs[0])
	}
	for i := range second {
		_ = second[i].end(kit.Bounded(c.t, 5*time.Second))
	}
}

type ourCandidate struct {
	ours
	leadership *leader.Leadership
}

func (c *cell) ourCandidate(name string) candidate {
	client, _ := c.client()
	o := &ourCandidate{ours: ours{t: c.t, registry: quiet(c.t, client, c.prefix("ours"))}}
	desc := leaderpb.Counter_EtcdServiceDesc
	desc.LeaseTTL = 15 * time.Second
	o.server = o.registry.NewServer(grpc.NewServer())
	leaderpb.RegisterCounterServer(o.server, leaderpb.UnimplementedCounterServer{})
	o.server.Publish(&desc)
	o.leadership = leader.Of(o.server, &desc)
	kit.Must(c.t, o.server.Announce(kit.Bounded(c.t, kit.Soon), name+":1"))
	return o
}

func (o *ourCandidate) leads() bool { _, ok := o.leadership.Token(); return ok }

type plainCandidate struct {
	election *concurrency.Election
	client   *clientv3.Client
	session  *concurrency.Session
	ends     policy
	won      atomic.Bool
}

func (c *cell) plainCandidate(name string) candidate {
	client, _ := c.client()
	p := &plainCandidate{client: client, ends: c.fault.ends()}
	var err error
	p.session, err = concurrency.NewSession(client, concurrency.WithTTL(15))
	kit.Must(c.t, err)
	c.t.Cleanup(p.session.Orphan)
	p.election = concurrency.NewElection(p.session, c.prefix("plain"))
	ctx, cancel := context.WithCancel(context.Background())
	var standing sync.WaitGroup
	standing.Go(func() {
		for ctx.Err() == nil && !p.won.Load() {
			p.won.Store(p.election.Campaign(ctx, name) == nil)
		}
	})
	c.t.Cleanup(func() { cancel(); standing.Wait() })
	return p
}

func (p *plainCandidate) leads() bool { return p.won.Load() }

func (p *plainCandidate) end(ctx context.Context) error {
	return p.ends.do(ctx, revoke(p.client, p.session.Lease()))
}
