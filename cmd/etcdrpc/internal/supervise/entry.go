package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// revokeTimeout bounds the wait for etcd to revoke the lease of an entry that is gone.
const revokeTimeout = time.Second

// Entry says what is in etcd while the command serves.
type Entry struct {
	Key       string
	Listen    string // where the command listens, on all addresses: ":9000"
	Advertise string // host:port for callers; "": the runtime finds it
	Connect   func(ctx context.Context) (*clientv3.Client, error)
	Registry  []runtime.Option
	Options   []runtime.RegisterOption
}

// server returns a server that announces the entry. It is never served: the command serves in its place.
func (e Entry) server(client *clientv3.Client, health *grpchealth.Server) (*runtime.Registry, *runtime.Server) {
	registry := runtime.NewRegistry(client, e.Registry...)
	server := registry.NewServer(grpc.NewServer(), runtime.WithAdvertiseAddress(e.Advertise))
	// The runtime sees no method to set a status by: the status it would set, RegistrationHealth, may be the key's.
	healthpb.RegisterHealthServer(server, struct{ healthpb.HealthServer }{health})
	// The authority is for callers, whose generated code has one of its own.
	server.Publish(&runtime.ServiceDesc{Name: e.Key, Key: e.Key, Authority: "localhost"}, e.Options...)
	return registry, server
}

// Check says what is wrong with the entry, as far as that can be told without etcd. The client needs no connection.
func (e Entry) Check(ctx context.Context, client *clientv3.Client) error {
	e.Registry = append(slices.Clone(e.Registry), runtime.WithLogger(slog.New(slog.DiscardHandler))) // it is said again when it matters
	registry, server := e.server(client, grpchealth.NewServer())
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	err := server.Announce(ctx, "127.0.0.1"+e.Listen) // in place of the address that the runtime would look for
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, registry.Close(context.WithoutCancel(ctx)))
}

// keeper keeps the entry in etcd.
type keeper struct {
	Entry
	health *grpchealth.Server
	life   context.Context // of announcements; ends with the withdrawal
	end    context.CancelFunc

	mu       sync.Mutex
	client   *clientv3.Client // nil: not connected yet
	registry *runtime.Registry
	server   *runtime.Server
}

func newKeeper(ctx context.Context, e Entry) *keeper {
	k := &keeper{Entry: e, health: grpchealth.NewServer()}
	k.life, k.end = context.WithCancel(ctx)
	return k
}

// setHealth takes the entry out of etcd while the command is not healthy.
func (k *keeper) setHealth(ok bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if ok {
		status = healthpb.HealthCheckResponse_SERVING
	}
	k.health.SetServingStatus("", status)
}

// announce puts the entry in etcd, and returns when it is there, or when etcd refuses it. Only one call at a time.
func (k *keeper) announce(ctx context.Context) error {
	server := k.opened()
	if server == nil {
		client, err := k.Connect(ctx)
		if err != nil {
			return err
		}
		if server = k.open(client); server == nil {
			client.Close()
			return context.Cause(k.life)
		}
	}
	return server.Announce(k.life, k.Listen)
}

// open takes a connection to etcd, and returns nil if that is needed no more.
func (k *keeper) open(client *clientv3.Client) *runtime.Server {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.life.Err() != nil {
		return nil
	}
	k.client = client
	k.registry, k.server = k.Entry.server(client, k.health)
	return k.server
}

// opened returns the server, nil if there is no connection to etcd yet.
func (k *keeper) opened() *runtime.Server {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.server
}

// withdraw takes the entry out of etcd for good, and ends an announcement that is under way.
func (k *keeper) withdraw(ctx context.Context) error {
	k.end()
	server := k.opened()
	if server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	if err := server.Withdraw(ctx); err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	return nil
}

// close revokes the lease and closes the connection to etcd. The runtime logs what fails, and the lease ends by itself.
func (k *keeper) close() {
	k.end()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
	defer cancel()
	k.registry.Close(ctx)
	k.client.Close()
}
