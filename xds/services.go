package xds

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// ReadImage returns the services with the option in an image of proto files, as "buf build -o" writes it, or protoc with
// --include_imports and --descriptor_set_out. They equal those in generated code. An invalid option is an error, as in the plugin.
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
		all[i] = &runtime.ServiceDesc{Name: d.Name, Key: d.Key, Authority: d.Authority, ServiceConfig: d.ServiceConfig, Leader: d.Leader}
		switch {
		case d.LeaseSuffix:
			all[i].Layout = runtime.LeaseSuffix
		case d.JSON != nil:
			all[i].Layout = runtime.JSONLayout(runtime.JSONFields(*d.JSON))
		}
	}
	return all, nil
}

// ServiceAt returns the service at a key without a proto file: round robin, and what its live service config says. authority
// is the name that clients dial, "" for the key with "." for "/".
func ServiceAt(key, authority string) (*runtime.ServiceDesc, error) {
	if err := servicekey.Check(key); err != nil {
		return nil, fmt.Errorf("service key %.80q %w", key, err)
	}
	if authority == "" {
		var ok bool
		if authority, ok = servicekey.Authority(key); !ok {
			return nil, fmt.Errorf("the key %.80q gives the authority %.80q, which is no valid host: give one", key, authority)
		}
	}
	return &runtime.ServiceDesc{Key: key, Authority: authority}, nil
}

// distinct leaves out descriptions that are there already.
func distinct(services []*runtime.ServiceDesc) (all []*runtime.ServiceDesc) {
	for _, d := range services {
		if !slices.ContainsFunc(all, func(other *runtime.ServiceDesc) bool { return reflect.DeepEqual(d, other) }) {
			all = append(all, d)
		}
	}
	return all
}

// checkServices checks what hosts have in common.
func checkServices(services []*runtime.ServiceDesc) error {
	if len(services) == 0 {
		return errors.New("xds: there is no service")
	}
	keys := make(map[string]*runtime.ServiceDesc) // by the name that TLS checks
	names := make(map[string]map[string]bool)     // of services, by authority
	for _, d := range services {
		if err := d.Check(); err != nil {
			return fmt.Errorf("xds: %w", err)
		}
		if d.Authority == "" {
			return fmt.Errorf("xds: the service %q at %q has no Authority, by which clients dial it", d.Name, d.Key)
		}
		if err := servicekey.CheckAuthority(d.Authority); err != nil {
			return fmt.Errorf("xds: service %q: the authority %q %w", d.Name, d.Authority, err)
		}
		name := servicekey.TLSName(d.Key, d.Authority)
		other := keys[name]
		if other == nil {
			other = d
		}
		if other.Key != d.Key {
			return fmt.Errorf("xds: the services at %q and %q have the TLS name %q: servers of one could pose as the other's, give one an authority of its own",
				other.Key, d.Key, name)
		}
		keys[name] = d
		if layout(other) != layout(d) {
			return fmt.Errorf("xds: the services at the key %q have the layouts %v and %v: services that share a key have one", d.Key, layout(other), layout(d))
		}
		if names[d.Authority] == nil {
			names[d.Authority] = make(map[string]bool)
		}
		if named := names[d.Authority]; named[d.Name] || len(named) > 0 && (d.Name == "" || named[""]) {
			return fmt.Errorf("xds: the service %q at the authority %q is described in two ways, or beside one without a name, which takes all calls", d.Name, d.Authority)
		}
		names[d.Authority][d.Name] = true
	}
	return nil
}

// layout returns the text of a description's layout.
func layout(d *runtime.ServiceDesc) string {
	if d.Layout == nil {
		return runtime.EndpointJSON.String()
	}
	return d.Layout.String()
}

// Unsupported returns the features of a service that xDS lacks, for people, sorted. It does not know which methods are for the leader.
func Unsupported(serviceConfig string, endpoints []runtime.Endpoint) ([]string, error) {
	policy, err := mapping.ReadPolicy(serviceConfig)
	if err != nil {
		return nil, err
	}
	host := &mapping.Host{Authority: "any", Services: []mapping.Service{{Policy: policy}}}
	for _, e := range endpoints {
		host.Endpoints = append(host.Endpoints, endpoint.Endpoint(e))
	}
	s, err := mapping.Map(host, mapping.Client{})
	if err != nil {
		return nil, err
	}
	return s.Unsupported, nil
}
