package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
)

// ServiceDesc describes a service. Generated code has one for each service
// whose proto file has the etcd option. Write one by hand for a service without
// generated code.
type ServiceDesc struct {
	Name string // full protobuf name, "helloworld.Greeter"

	// such as "helloworld/greeter" for entries under "helloworld/greeter/"
	Key string

	// the layout that servers write, and clients read in addition to others;
	// nil means EndpointJSON
	Layout Layout

	// how long an entry outlives its process; 0 means the registry's, 15 s by
	// default
	LeaseTTL time.Duration

	// :authority and TLS server name; "" means Key without a leading slash,
	// with "." for "/"
	Authority string

	ServiceConfig string // gRPC service config as JSON, or ""

	// a feature of another package, such as leader.Methods of package leader;
	// nil: none
	Extension Extension
}

// Extension is a feature in another package, so that only programs that use the
// feature link it. Other modules cannot implement Extension.
type Extension interface{ extender }

type extender = extension.Extender

// Check returns an error if the description is not valid. It does not check the
// service config.
func (d *ServiceDesc) Check() error {
	if d == nil {
		return errors.New("etcd: the service description is nil")
	}

	if err := endpoint.CheckKey(d.Key); err != nil {
		return fmt.Errorf("etcd: service %q: %w", d.Name, err)
	}

	if err := d.layout().layout().Check(); err != nil {
		return fmt.Errorf("etcd: service %q: %w", d.Name, err)
	}

	if d.Extension != nil {
		if _, err := d.Extension.Extend(d.Name); err != nil {
			return fmt.Errorf("etcd: service %q: %w", d.Name, err)
		}
	}

	if d.LeaseTTL < 0 {
		return fmt.Errorf("etcd: service %q: the lease TTL %v is negative", d.Name,
			d.LeaseTTL)
	}

	return nil
}

// hooks returns the hooks of Extension, or the zero value if Extension is nil.
// It ignores errors, which Check reports.
func (d *ServiceDesc) hooks() (h extension.Hooks) {
	if d.Extension != nil {
		h, _ = d.Extension.Extend(d.Name)
	}

	return h
}

// layout returns Layout or its default.
func (d *ServiceDesc) layout() Layout {
	return cmp.Or(d.Layout, EndpointJSON)
}

// authority returns the name that TLS verifies and calls carry as :authority.
func (d *ServiceDesc) authority() (string, error) {
	if d.Authority != "" {
		if err := servicekey.CheckAuthority(d.Authority); err != nil {
			return "", fmt.Errorf("etcd: service %q: the authority %q %w", d.Name,
				d.Authority, err)
		}

		return d.Authority, nil
	}

	authority, ok := servicekey.Authority(d.Key)
	if !ok {
		return "", fmt.Errorf("etcd: service %q: the key %q gives the authority %q, which is not a valid host: set Authority (in the proto: authority)",
			d.Name, d.Key, authority)
	}

	return authority, nil
}

// SetServiceConfig writes a live service config for the service at key. Every
// client of the service uses it within moments: its top-level fields replace
// those of the generated config and the caller's. json is a gRPC service
// config. A config that gRPC would refuse or misread is an error and is not
// written. If json is "", SetServiceConfig deletes the live config, and clients
// use the other configs again. Connections with a bare [Registry.Resolver] are
// an exception: gRPC cannot return to the config that they were made with, so
// they go on without a config, under round_robin.
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
