package scenarios

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	etcdrpc "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leaseTTL is go-zero's, which cannot be changed, in seconds.
const leaseTTL = 10

// registrar registers endpoints as a peer does.
type registrar struct {
	register func(key string, i int) error
	close    func() error
}

func registrarOf(peer string, client *clientv3.Client) (*registrar, error) {
	switch peer {
	case peerFloor:
		return nakedRegistrar(client)
	case peerOurs:
		return ourRegistrar(client), nil
	case peerEtcd:
		return namingRegistrar(client), nil
	case peerGoZero:
		return goZeroRegistrar(client), nil
	}
	return nil, fmt.Errorf("%q does not register", peer)
}

// nakedRegistrar puts everything on one lease.
func nakedRegistrar(client *clientv3.Client) (*registrar, error) {
	ctx := context.Background()
	lease, err := keptLease(client)
	if err != nil {
		return nil, err
	}
	return &registrar{
		register: func(key string, i int) error {
			_, err := client.Put(ctx, key+"/"+addr(i), namingValue(addr(i)), clientv3.WithLease(lease))
			return err
		},
		close: func() error {
			_, err := client.Revoke(ctx, lease)
			return err
		},
	}, nil
}

// keptLease is a lease that is kept alive until it is revoked.
func keptLease(client *clientv3.Client) (clientv3.LeaseID, error) {
	ctx := context.Background()
	lease, err := client.Grant(ctx, leaseTTL)
	if err != nil {
		return 0, err
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return 0, err
	}
	go func() {
		for range renewals {
		}
	}()
	return lease.ID, nil
}

func ourRegistrar(client *clientv3.Client) *registrar {
	ctx := context.Background()
	registry := newRegistry(client, etcdrpc.WithLeaseTTL(leaseTTL*time.Second))
	return &registrar{
		register: func(key string, i int) error {
			_, err := registry.Register(ctx, key, etcdrpc.Endpoint{Addr: addr(i)})
			return err
		},
		close: func() error { return registry.Close(ctx) },
	}
}

// namingRegistrar does for each endpoint what the documents of etcd's naming package show.
func namingRegistrar(client *clientv3.Client) *registrar {
	ctx := context.Background()
	var leases []clientv3.LeaseID
	return &registrar{
		register: func(key string, i int) error {
			manager, err := endpoints.NewManager(client, key)
			if err != nil {
				return err
			}
			lease, err := keptLease(client)
			if err != nil {
				return err
			}
			leases = append(leases, lease)
			return manager.AddEndpoint(ctx, key+"/"+addr(i), endpoints.Endpoint{Addr: addr(i)}, clientv3.WithLease(lease))
		},
		close: func() error {
			for _, lease := range leases {
				if _, err := client.Revoke(ctx, lease); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func goZeroRegistrar(client *clientv3.Client) *registrar {
	var stops []func()
	return &registrar{
		register: func(key string, i int) error {
			stop, err := goZero.Publish(client.Endpoints(), key, addr(i))
			stops = append(stops, stop)
			return err
		},
		close: func() error {
			for _, stop := range stops {
				stop()
			}
			return nil
		},
	}
}
