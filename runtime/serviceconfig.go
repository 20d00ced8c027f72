package runtime

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/balancer"
)

// SetServiceConfig puts a live service config for the service at key, which every client of the
// service goes by within moments: it is laid over the generated one and the caller's own, top-level
// field by field. json is a gRPC service config; one that gRPC would refuse, or misread, is an error
// and is not put. "" deletes the live config, which puts the others back in force, save on connections
// with a bare [Registry.Resolver]: gRPC has no way back to the config that they were made with, so they
// go on with none, which is pick_first.
//
// The live config is kept at <namespace>_grpc_config/<key>.
func (r *Registry) SetServiceConfig(ctx context.Context, key, json string) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := endpoint.CheckKey(key); err != nil {
		return fmt.Errorf("etcd: set the service config: %w", err)
	}
	op := clientv3.OpDelete(r.configKey(key))
	if json != "" {
		if err := serviceconfig.CheckLive(json); err != nil {
			return fmt.Errorf("etcd: service config of %q: %w", key, err)
		}
		op = clientv3.OpPut(r.configKey(key), json)
	}
	if _, err := r.client.Do(ctx, op); err != nil {
		return fmt.Errorf("etcd: put the service config at %q: %w", r.configKey(key), err)
	}
	return nil
}

// clientConfig is the service config of a connection: layers from the lowest to the highest, with
// the load balancing policy of the result put under our own.
func clientConfig(layers ...string) (string, error) {
	merged, err := serviceconfig.Merge(layers...)
	if err != nil {
		return "", err
	}
	return serviceconfig.Wrap(merged, balancer.Name)
}
