package scenarios

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// bound is the time after which a recovery counts as one that never comes.
const bound = 6 * time.Second

var recoveryScenario = &Scenario{
	run: runRecovery,
	Scenario: report.Scenario{
		Name: "recovery", Title: "recovery",
		About: "A client is cut off from etcd for 3 s, in which endpoints come and history is compacted: the time is from the end of the cut until it knows of them. A registration loses its key, then its lease: the time is until the key is back. *Never* means not within " + bound.String() + ".",
		Peers: finders[1:],
		Metrics: []metric{
			{Name: "after a cut with compaction, s", Plot: true},
			{Name: "after the lease is revoked, s", Plot: true},
			{Name: "after the key is deleted, s", Plot: true},
		},
		Targets: []target{
			{Metric: "after a cut with compaction, s", Limit: 0.5},
			{Metric: "after the lease is revoked, s", Limit: 1},
			{Metric: "after the key is deleted, s", Limit: 0.1},
		},
	},
}

// runRecovery breaks a client's watch and a server's registration, and times their recovery.
func runRecovery(ctx context.Context, b *bench) error {
	return b.atOnce(ctx, finders[1:], func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error) {
		values := make(map[string]float64)
		var err error
		if values["after a cut with compaction, s"], err = b.recoverWatch(ctx, peer, cluster); err != nil {
			return nil, err
		}
		registered := params{Role: "register", Peer: peer, Endpoints: cluster.Endpoints(), Size: 1}
		p, err := b.spawnTo(registered, "registered", patience)
		if err != nil {
			return nil, err
		}
		defer p.end()
		// Deleting comes first, for it leaves the lease.
		values["after the key is deleted, s"], err = recoverKey(ctx, cluster, func(kv *mvccpb.KeyValue) error {
			_, err := cluster.Admin().Delete(ctx, string(kv.Key))
			return err
		})
		if err != nil {
			return nil, err
		}
		if values["after the key is deleted, s"] == never {
			p.end()
			if p, err = b.spawnTo(registered, "registered", patience); err != nil {
				return nil, err
			}
			defer p.end()
		}
		values["after the lease is revoked, s"], err = recoverKey(ctx, cluster, func(kv *mvccpb.KeyValue) error {
			_, err := cluster.Admin().Revoke(ctx, clientv3.LeaseID(kv.Lease))
			return err
		})
		return values, err
	})
}

// recoverWatch cuts a client off for 3 s, in which endpoints come and history is compacted, and
// returns how long after the cut the client knows of them.
func (b *bench) recoverWatch(ctx context.Context, peer string, cluster *etcdtest.Cluster) (float64, error) {
	const size, added = 10, 5
	admin, style := cluster.Admin(), styleOf(peer, serviceKey)
	if err := putAll(ctx, admin, style, 0, size); err != nil {
		return 0, err
	}
	p, err := b.spawnTo(params{
		Role: "recover", Peer: peer, Key: serviceKey, Endpoints: cluster.Endpoints(), Size: size, Final: size + added, Conns: 1, Limit: bound,
	}, "ready", patience)
	if err != nil {
		return 0, err
	}
	defer p.end()
	cluster.Cut()
	// One by one, for the history of the last change is not compacted.
	for i := size; i < size+added; i++ {
		if err := putAll(ctx, admin, style, i, i+1); err != nil {
			return 0, err
		}
	}
	if _, err := cluster.Compact(ctx); err != nil {
		return 0, err
	}
	time.Sleep(3 * time.Second)
	cluster.Restore()
	restored := time.Now()
	values, err := p.finish(bound + patience)
	if err != nil {
		return 0, err
	}
	if values["at"] == never {
		return never, nil
	}
	return (values["at"] - float64(restored.UnixNano())) / 1e9, nil
}

func childRecover(c *child) (map[string]float64, error) {
	g, err := c.open()
	if err != nil {
		return nil, err
	}
	arrived := g.expect(c.Final)
	if err := c.meet("ready"); err != nil {
		return nil, err
	}
	at, ok := within(arrived, c.Limit)
	if !ok {
		return map[string]float64{"at": never}, nil
	}
	return map[string]float64{"at": float64(at.UnixNano())}, nil
}

// recoverKey loses the one registration and returns how long it takes to be back.
func recoverKey(ctx context.Context, cluster *etcdtest.Cluster, lose func(*mvccpb.KeyValue) error) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	admin := cluster.Admin()
	prefix := serviceKey + "-0/"
	resp, err := admin.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
	if err != nil {
		return 0, err
	}
	if len(resp.Kvs) == 0 {
		return 0, fmt.Errorf("nothing is registered under %q", prefix)
	}
	puts := admin.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1), clientv3.WithFilterDelete())
	if err := lose(resp.Kvs[0]); err != nil {
		return 0, err
	}
	lost := time.Now()
	select {
	case answer := <-puts:
		return max(0, time.Since(lost).Seconds()), answer.Err()
	case <-time.After(bound):
		return never, nil
	}
}
