package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// prefix is the prefix of the keys of entries. The address of the server
// follows it.
var prefix = basic.Greeter_EtcdServiceDesc.Key + "/"

// calm waits until isWell returns nil. After a storm that takes long: entries
// of killed servers stay until their leases expire, etcd extends leases when it
// elects a leader, and clients hold vanished endpoints for 30 s. Busy machines
// take longer.
func (w *world) calm(ctx context.Context) error {
	const bound = 2 * time.Minute

	for began := time.Now(); ; sleep(ctx, 100*time.Millisecond) {
		err := w.isWell(ctx)
		switch {
		case err == nil:
			w.logf("  all is well after %v", time.Since(began).Round(time.Millisecond))
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Since(began) > bound:
			return fmt.Errorf("%v after the start or the storm: %w", bound, err)
		}
	}
}

// isWell returns an error unless etcd has exactly the entries of the running
// servers, each on the lease in the server's status, and each client knows and
// reaches exactly these servers.
func (w *world) isWell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()

	want := map[string]clientv3.LeaseID{}
	for i := range w.servers {
		if l := w.servers[i].current.Load(); l != nil {
			want[l.addr] = 0
			for _, status := range l.server.Status() {
				if status.State == runtime.StateRegistered {
					want[l.addr] = status.LeaseID
				}
			}
		}
	}

	if err := w.has(ctx, want); err != nil {
		return err
	}

	var all errgroup.Group
	for _, c := range w.clients {
		all.Go(func() error {
			reached, err := c.reach(ctx)

			has := slices.Sorted(maps.Keys(reached))
			wants := slices.Sorted(maps.Keys(want))
			if err == nil && !slices.Equal(has, wants) {
				err = fmt.Errorf("a client reached %v, want the running servers %v", has,
					wants)
			}

			return err
		})
	}

	return all.Wait()
}

// has returns an error unless etcd has exactly the entries of these addresses
// on these leases, and no other key or lease.
func (w *world) has(ctx context.Context, want map[string]clientv3.LeaseID) error {
	got := map[string]clientv3.LeaseID{}

	keys, err := w.etcd.Admin().Get(ctx, "", clientv3.WithPrefix())
	if err != nil {
		return err
	}

	for _, kv := range keys.Kvs {
		got[strings.TrimPrefix(string(kv.Key), prefix)] = clientv3.LeaseID(kv.Lease)
	}

	leases, err := w.etcd.Admin().Leases(ctx)
	if err == nil && (!maps.Equal(got, want) || len(leases.Leases) != len(want)) {
		err = fmt.Errorf(
			"etcd has the entries %v and %d leases, want %v and a lease each", got,
			len(leases.Leases), want)
	}

	return err
}

// end drains the servers, closes the clients, and returns an error if a key or
// lease remains in etcd.
func (w *world) end() error {
	var all errgroup.Group
	for i := range w.servers {
		all.Go(w.servers[i].drain)
	}

	for _, c := range w.clients {
		all.Go(c.close)
	}

	err := all.Wait()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	return errors.Join(err, w.has(ctx, nil))
}
