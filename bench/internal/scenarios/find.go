package scenarios

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// open has c's peer follow the service with its connections, and waits until all know all of it.
func (c *child) open() (*group, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	open, err := openerOf(c.Peer, c.Key, client)
	if err != nil {
		return nil, err
	}
	return c.all(open)
}

// openProbed is open through gRPC.
func (c *child) openProbed() (*group, error) {
	p := installProbe(c.Key)
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	open, err := p.openerOf(c.Peer, client)
	if err != nil {
		return nil, err
	}
	return c.all(open)
}

// all opens c's connections, and waits until all know all of the service.
func (c *child) all(open opener) (*group, error) {
	g := &group{}
	if err := open(g, c.Conns); err != nil {
		return nil, err
	}
	if _, ok := within(g.expect(c.Size), patience); !ok {
		return nil, fmt.Errorf("not all of %d connections have %d endpoints", c.Conns, c.Size)
	}
	return g, nil
}

// ready starts a child on a service of so many endpoints, and waits until it knows them.
func (b *bench) ready(ctx context.Context, etcd *server, p params) (*proc, error) {
	if err := putAll(ctx, etcd.client, styleOf(p.Peer, p.Key), 0, p.Size); err != nil {
		return nil, err
	}
	p.Endpoints = etcd.endpoints()
	return b.spawnTo(p, "ready", patience)
}

// finished starts a child on a service of so many endpoints, alone in etcd, and returns what it has measured.
func (b *bench) finished(ctx context.Context, etcd *server, p params) (map[string]float64, error) {
	if err := etcd.clear(ctx); err != nil {
		return nil, err
	}
	child, err := b.ready(ctx, etcd, p)
	if err != nil {
		return nil, err
	}
	defer child.end()
	return child.finish(patience + time.Duration(p.Changes)*20*time.Millisecond)
}

// warm connects a peer to etcd.
func warm(peer string, client *clientv3.Client) error {
	if _, err := client.Get(context.Background(), "bench/warm/"); err != nil || peer != peerGoZero {
		return err
	}
	return goZero.Connect(client.Endpoints())
}
