package runtime

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// ServiceDesc is what a proto file says of a service. Generated code holds one for each service
// that has the option; write one by hand for a service without generated code.
type ServiceDesc struct {
	Name          string        // full protobuf name, "helloworld.Greeter"
	Key           string        // "helloworld/greeter": the endpoints live under "helloworld/greeter/"
	Layout        Layout        // what servers write, and whether clients read lease-suffix keys; nil: EndpointJSON
	LeaseTTL      time.Duration // how long an endpoint outlives its process; 0: the registry's, 15 s by default
	Authority     string        // :authority and TLS server name; "": Key without a leading slash, "/" as "."
	ServiceConfig string        // gRPC service config as JSON, "" none
}

// check tells what is wrong with a description before anything is done with it.
func (d *ServiceDesc) check() error {
	if d == nil {
		return errors.New("etcd: the service description is nil")
	}
	if err := endpoint.CheckKey(d.Key); err != nil {
		return fmt.Errorf("etcd: service %q: %w", d.Name, err)
	}
	if d.LeaseTTL < 0 {
		return fmt.Errorf("etcd: service %q: the lease TTL %v is negative", d.Name, d.LeaseTTL)
	}
	return nil
}

// layout returns the layout in force.
func (d *ServiceDesc) layout() Layout {
	if d.Layout == nil {
		return EndpointJSON
	}
	return d.Layout
}

// authority returns the name that TLS verifies and calls carry as :authority.
func (d *ServiceDesc) authority() (string, error) {
	if d.Authority != "" {
		return d.Authority, checkAuthority(d.Authority)
	}
	authority := defaultAuthority(d.Key)
	if err := checkAuthority(authority); err != nil {
		return "", fmt.Errorf("etcd: the key %q gives no valid host name: %w; set Authority (in the proto: authority)", d.Key, err)
	}
	return authority, nil
}

// defaultAuthority is the key without a leading slash, "/" as ".".
func defaultAuthority(key string) string {
	return strings.ReplaceAll(strings.TrimPrefix(key, "/"), "/", ".")
}

// checkAuthority accepts a host or host:port.
func checkAuthority(authority string) error {
	for _, r := range authority {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`/@\?#%"<>^{}|`+"`", r) {
			return fmt.Errorf("%q is no authority: %q cannot stand in a host name", authority, r)
		}
	}
	if authority == "" {
		return errors.New("the authority is empty")
	}
	return nil
}
