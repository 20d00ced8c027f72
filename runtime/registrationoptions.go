package runtime

import (
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// RegisterOption configures an endpoint that is registered.
type RegisterOption func(*registerOptions)

type registerOptions struct {
	registrar.Details
	layouts []endpoint.Layout
	err     error
}

func newRegisterOptions(opts []RegisterOption) (registerOptions, error) {
	var o registerOptions
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o, o.err
}

// WithInstance sets the instance id. It must be unique under the service key, and the same after a restart so
// that the process takes its own entry over. Default: the advertised address.
func WithInstance(id string) RegisterOption {
	return func(o *registerOptions) { o.Instance = &id }
}

// WithVersion sets the version, free text such as "v2". Default: none.
func WithVersion(version string) RegisterOption {
	return func(o *registerOptions) { o.Version = &version }
}

// WithZoneTag sets the zone of the endpoint. Default: the registry's, see [WithZone].
func WithZoneTag(zone string) RegisterOption {
	return func(o *registerOptions) { o.Zone = &zone }
}

// WithWeight sets the relative share of the calls under the weighted policy. Default: 0, which
// counts as 1.
func WithWeight(weight uint32) RegisterOption {
	return func(o *registerOptions) { o.Weight = &weight }
}

// WithMetadata adds a metadata value. The names "version", "zone", "weight", "grpc_methods",
// "grpc_leaving" and "grpc_started" are reserved. May be given many times.
func WithMetadata(name, value string) RegisterOption {
	return func(o *registerOptions) {
		if o.Metadata == nil {
			o.Metadata = make(map[string]string)
		}
		o.Metadata[name] = value
	}
}

// WithLayouts writes the entry in all of these layouts, for a fleet whose readers differ. It is an error if two
// of them would write one key. Default: the service's layout.
func WithLayouts(layouts ...Layout) RegisterOption {
	return func(o *registerOptions) {
		o.layouts = nil
		for _, l := range layouts {
			if l == nil {
				o.err = errors.New("WithLayouts was given a nil layout")
				return
			}
			o.layouts = append(o.layouts, l.layout())
		}
		if len(layouts) == 0 {
			o.err = errors.New("WithLayouts was given no layout")
		}
	}
}
