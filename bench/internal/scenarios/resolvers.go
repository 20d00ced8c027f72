package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcdnaming "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The peers, as they are called in results.
const (
	peerOurs   = report.Ours
	peerFloor  = "floor"
	peerEtcd   = "etcd's resolver"
	peerGoZero = "go-zero"
	peerStatic = "static"

	// This project without its own connections: gRPC's with its resolver, and Registry.Watch, without gRPC.
	peerBare  = report.Ours + ", bare resolver"
	peerWatch = report.Ours + ", Watch"
)

// finders are those that find endpoints, and the floor.
var finders = []string{peerFloor, peerOurs, peerEtcd, peerGoZero}

// newRegistry is this project's registry, silent as the peers are.
func newRegistry(client *clientv3.Client, opts ...etcdrpc.Option) *etcdrpc.Registry {
	return etcdrpc.NewRegistry(client, append(opts, etcdrpc.WithLogger(slog.New(slog.DiscardHandler)))...)
}

// builderOf returns how a peer makes gRPC's resolvers. The floor is not among them.
func builderOf(peer string, client *clientv3.Client) (resolver.Builder, error) {
	switch peer {
	case peerOurs, peerBare:
		return newRegistry(client).Resolver(), nil
	case peerEtcd:
		return etcdnaming.NewBuilder(client)
	case peerGoZero:
		return goZero.Builder(client.Endpoints()), nil
	}
	return nil, fmt.Errorf("%q makes no resolvers", peer)
}

// naked is the floor: a list and a watch that only decode.
type naked struct {
	client  *clientv3.Client
	service string
	told    func(size int)
	known   map[string]nakedEndpoint
}

type nakedEndpoint struct {
	Op       uint8
	Addr     string
	Metadata any
}

func (f *naked) run(ctx context.Context) error {
	resp, err := f.client.Get(ctx, f.service+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	f.known = make(map[string]nakedEndpoint, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		if err := f.put(kv.Key, kv.Value); err != nil {
			return err
		}
	}
	f.told(len(f.known))
	for resp := range f.client.Watch(ctx, f.service+"/", clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1)) {
		if err := resp.Err(); err != nil {
			return err
		}
		for _, event := range resp.Events {
			if event.Type == clientv3.EventTypeDelete {
				delete(f.known, string(event.Kv.Key))
			} else if err := f.put(event.Kv.Key, event.Kv.Value); err != nil {
				return err
			}
		}
		f.told(len(f.known))
	}
	return ctx.Err()
}

func (f *naked) put(key, value []byte) error {
	var e nakedEndpoint
	if err := json.Unmarshal(value, &e); err != nil {
		return err
	}
	f.known[string(key)] = e
	return nil
}

// opener has n more connections of a peer's follow the service.
type opener func(g *group, n int) error

// openerOf makes a peer ready. For the floor it is one watch, however many connections are asked for.
func openerOf(peer, service string, client *clientv3.Client) (opener, error) {
	openerOf, err := openersOf(peer, client)
	if err != nil {
		return nil, err
	}
	return openerOf(service), nil
}

// openersOf is openerOf for several services of one process.
func openersOf(peer string, client *clientv3.Client) (func(service string) opener, error) {
	if peer == peerFloor {
		return func(service string) opener {
			return func(g *group, _ int) error { follow(g, client, service); return nil }
		}, nil
	}
	if peer == peerWatch {
		registry := newRegistry(client)
		return func(service string) opener {
			return func(g *group, _ int) error { watch(g, registry, service); return nil }
		}, nil
	}
	builder, err := builderOf(peer, client)
	if err != nil {
		return nil, err
	}
	return func(service string) opener {
		target := resolver.Target{URL: url.URL{Scheme: builder.Scheme(), Path: "/" + service}}
		return func(g *group, n int) error { return build(g, n, builder, target) }
	}, nil
}

// follow has the floor follow a service.
func follow(g *group, client *clientv3.Client, service string) {
	s := g.add()
	f := &naked{client: client, service: service, told: func(size int) { g.tell(s, resolver.State{}, size) }}
	go func() {
		if err := f.run(context.Background()); err != nil {
			slog.Error("the floor gave up", "error", err)
		}
	}()
}

// watch has a registry watch a service.
func watch(g *group, registry *etcdrpc.Registry, service string) {
	s := g.add()
	go func() {
		for endpoints, err := range registry.Watch(context.Background(), service) {
			if err != nil {
				slog.Error("the watch", "error", err)
				continue
			}
			g.tell(s, resolver.State{}, len(endpoints))
		}
	}()
}

// build builds n resolvers for a target.
func build(g *group, n int, builder resolver.Builder, target resolver.Target) error {
	stubs := make([]*stub, n)
	for i := range stubs {
		stubs[i] = g.add()
	}
	for _, s := range stubs {
		if _, err := builder.Build(target, s, resolver.BuildOptions{}); err != nil {
			return err
		}
	}
	return nil
}
