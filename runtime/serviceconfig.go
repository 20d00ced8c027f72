package runtime

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// SetServiceConfig puts a live service config for the service at key. Every client of the service uses
// it within moments, laid over the generated one and the caller's own, for each top-level field. json is
// a gRPC service config; a config that gRPC would refuse, or misread, is an error and is not written. "" deletes
// the live config, which puts the others back in force. Connections with a bare [Registry.Resolver] are
// an exception: gRPC cannot return to the config that they were made with, so they go on without one,
// under pick_first.
//
// The live config is kept at <namespace>_grpc_config/<key>.
func (r *Registry) SetServiceConfig(ctx context.Context, key, json string) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := endpoint.CheckKey(key); err != nil {
		return fmt.Errorf("etcd: set the service config: %w", err)
	}
	configKey := discovery.ConfigKey(r.opts.namespace, key)
	op := clientv3.OpDelete(configKey)
	if json != "" {
		if _, err := grpccheck.Live(json); err != nil {
			return fmt.Errorf("etcd: service config of %q: %w", r.full(key), err)
		}
		op = clientv3.OpPut(configKey, json)
	}
	if _, err := r.client.Do(ctx, op); err != nil {
		return fmt.Errorf("etcd: put the service config at %q: %w", configKey, err)
	}
	return nil
}
