package conformance

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// onBoth runs a scenario on the model, in virtual time, and on etcd.
func onBoth(t *testing.T, members int, scenario func(*testing.T, *cluster)) {
	t.Helper()
	t.Run("model", func(t *testing.T) { onModel(t, members, scenario) })
	t.Run("etcd", func(t *testing.T) {
		long(t)
		scenario(t, newRealCluster(t, startEtcd(t, etcdtest.WithMembers(members))))
	})
}

// onModel runs a scenario on the model in virtual time.
func onModel(t *testing.T, members int, scenario func(*testing.T, *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		model := etcd.New(members)
		t.Cleanup(model.Close)
		scenario(t, newModelCluster(t, model, members))
	})
}

// cluster is etcd or the model, and what can be done to it.
type cluster struct {
	t        *testing.T
	election time.Duration // how long members wait for a leader before they elect one
	late     time.Duration // how much later than it should something may be seen

	dial    func(member int) *side
	restart func(member int)
	stop    func(member int)
	isolate func(members ...int) // from their peers; nil where it cannot be done
	elect   func()               // another leader

	leader   func() int
	follower func() int
}

// within fails the test unless something took least, and at most slack more. Etcd on a busy machine may take longer.
func (c *cluster) within(what string, took, least, slack time.Duration) {
	c.t.Helper()
	switch most := least + slack + c.late; {
	case took >= least && took <= most:
	case took > most && c.late > 0:
		c.t.Logf("the machine is too busy to tell: %s took %v, want %v to %v", what, took, least, most)
	default:
		c.t.Errorf("%s took %v, want %v to %v", what, took, least, most)
	}
}

// newRealCluster is etcd with an election timeout of 100 ms.
func newRealCluster(t *testing.T, real *etcdtest.Cluster) *cluster {
	leader := func() int {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		leader, err := real.Leader(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range real.Members() {
			if m == leader {
				return i
			}
		}
		panic("the leader is no member")
	}
	c := &cluster{t: t, election: 100 * time.Millisecond, late: late}
	c.dial = func(member int) *side { return dialReal(t, real, member) }
	c.restart = func(member int) {
		if err := real.Member(member).Restart(); err != nil {
			t.Fatal(err)
		}
	}
	c.stop = func(member int) { real.Member(member).Stop() }
	c.leader = leader
	c.follower = func() int { return (leader() + 1) % len(real.Members()) }
	c.elect = func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		from, to := leader(), c.follower()
		client := real.Client(t, func(cfg *clientv3.Config) { cfg.Endpoints = []string{real.Member(from).Endpoint()} })
		status, err := client.Status(ctx, real.Member(to).Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.MoveLeader(ctx, status.Header.MemberId)
		if errors.Is(err, rpctypes.ErrNotLeader) {
			t.Skipf("the machine is too busy for etcd: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// newModelCluster is the model, whose first member leads.
func newModelCluster(t *testing.T, model *etcd.Cluster, members int) *cluster {
	c := &cluster{t: t, election: time.Second}
	sides := make([]func() *side, members)
	serve := func(member int) { sides[member] = serveModel(t, model, member) }
	for i := range members {
		serve(i)
	}
	c.dial = func(member int) *side { return sides[member]() }
	c.restart = func(member int) {
		model.Stop(member)
		serve(member)
	}
	c.stop = model.Stop
	c.isolate = func(members ...int) {
		for _, member := range members {
			model.Isolate(member, true)
		}
	}
	c.leader = func() int { return 0 }
	c.follower = func() int { return 1 }
	c.elect = func() { model.Elect(1) }
	return c
}
