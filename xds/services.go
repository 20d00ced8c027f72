package xds

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey/conflict"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
)

// ReadImage returns the services with the option etcd.discovery.v1.service in
// an image of proto files, which "buf build -o" or protoc with
// --include_imports and --descriptor_set_out writes. To clients, they equal the
// descriptions in generated code. What only servers use, such as LeaseTTL, is
// not set. ReadImage fails if no service has the option, or an option is
// invalid.
func ReadImage(image []byte) ([]*runtime.ServiceDesc, error) {
	found, err := gen.Describe(image)
	if err != nil {
		return nil, err
	}

	if len(found) == 0 {
		return nil, errors.New("no service has the option (etcd.discovery.v1.service)")
	}

	all := make([]*runtime.ServiceDesc, len(found))
	for i, d := range found {
		all[i] = &runtime.ServiceDesc{
			Name:          d.Name,
			Key:           d.Key,
			Authority:     d.Authority,
			ServiceConfig: d.ServiceConfig,
		}
		if len(d.Leader) > 0 {
			all[i].Extension = leader.Methods(d.Leader)
		}

		switch {
		case d.LeaseSuffix:
			all[i].Layout = runtime.LeaseSuffix
		case d.JSON != nil:
			all[i].Layout = runtime.JSONLayout(runtime.JSONFields(*d.JSON))
		}
	}

	return all, nil
}

// ServiceAt describes the service at a key that has no proto file. Its policy
// is round robin, unless a live service config names another policy. authority
// is the name that clients dial; "" means the key with "." for "/". An invalid
// key or authority is an error.
func ServiceAt(key, authority string) (*runtime.ServiceDesc, error) {
	if err := servicekey.Check(key); err != nil {
		return nil, fmt.Errorf("service key %.80q %w", key, err)
	}

	if authority == "" {
		var ok bool
		authority, ok = servicekey.Authority(key)
		if !ok {
			return nil, fmt.Errorf("the key %.80q gives the authority %.80q, which is not a valid host: give one",
				key, authority)
		}
	}

	return &runtime.ServiceDesc{Key: key, Authority: authority}, nil
}

// checked returns services without duplicates. It fails if a service is
// invalid, or if clients cannot distinguish two services.
func checked(services []*runtime.ServiceDesc) (all []*runtime.ServiceDesc, err error) {
	for _, d := range services {
		isEqual := func(other *runtime.ServiceDesc) bool {
			return reflect.DeepEqual(d, other)
		}
		if slices.ContainsFunc(all, isEqual) {
			continue
		}

		if err := d.Check(); err != nil {
			return nil, fmt.Errorf("xds: %w", err)
		}

		if d.Authority == "" {
			return nil, fmt.Errorf("xds: the service %q at %q has no Authority, which is the name that clients dial",
				d.Name, d.Key)
		}

		if err := servicekey.CheckAuthority(d.Authority); err != nil {
			return nil, fmt.Errorf("xds: service %q: the authority %q %w", d.Name,
				d.Authority, err)
		}

		name := conflict.TLSName(d.Key, d.Authority)
		for _, other := range all {
			switch {
			case d.Key != other.Key &&
				name == conflict.TLSName(other.Key, other.Authority):
				return nil, fmt.Errorf("xds: the services at %q and %q have the TLS name %q: servers of one could pose as the other's: give them different authorities",
					other.Key, d.Key, name)

			case d.Authority == other.Authority &&
				(d.Name == other.Name || d.Name == "" || other.Name == ""):
				return nil, fmt.Errorf("xds: the service %q at the authority %q has two different descriptions, or shares the authority with a service without a name, which takes all calls",
					d.Name, d.Authority)
			}
		}

		all = append(all, d)
	}

	if len(all) == 0 {
		return nil, errors.New("xds: there is no service: give at least one")
	}

	return all, nil
}
