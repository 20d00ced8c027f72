package scenarios

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// each runs every peer once a round, beginning with another one each time.
func (b *bench) each(ctx context.Context, peers []string, run func(peer string, round int) error) error {
	for round := range b.Rounds {
		for i := range peers {
			peer := peers[(i+round)%len(peers)]
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := run(peer, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", peer, round, err)
			}
		}
	}
	return nil
}

// measure is each, and records what the runs have measured.
func (b *bench) measure(ctx context.Context, c string, peers []string, run func(peer string) (map[string]float64, error)) error {
	return b.each(ctx, peers, func(peer string, round int) error {
		values, err := run(peer)
		if err != nil {
			return err
		}
		b.record(c, peer, round, values)
		return nil
	})
}

// withBackends calls f with an etcd, and with backends in a process of their own, which end with it.
func (b *bench) withBackends(f func(*server, *farm) error) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	farm, err := b.startFarm()
	if err != nil {
		return err
	}
	defer farm.proc.end()
	return f(etcd, farm)
}

// atOnce makes all runs at the same time, each with an etcd of its own that can be broken.
func (b *bench) atOnce(ctx context.Context, peers []string, run func(peer string, cluster *etcdtest.Cluster) (map[string]float64, error)) error {
	type key struct {
		peer  string
		round int
	}
	var runs []key
	for round := range b.Rounds {
		for _, peer := range peers {
			runs = append(runs, key{peer, round})
		}
	}
	values := make([]map[string]float64, len(runs))
	g, ctx := errgroup.WithContext(ctx)
	for i, k := range runs {
		cluster, err := etcdtest.New(filepath.Join(b.dir, "at-once-"+strconv.Itoa(len(b.runs)+i)))
		if err != nil {
			return err
		}
		defer cluster.Close()
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if values[i], err = run(k.peer, cluster); err != nil {
				err = fmt.Errorf("%s, round %d: %w", k.peer, k.round, err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, k := range runs {
		b.record("", k.peer, k.round, values[i])
	}
	return nil
}
