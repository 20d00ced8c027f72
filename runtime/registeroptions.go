package runtime

import (
	"errors"
	"maps"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// RegisterOption says more of an endpoint that is registered.
type RegisterOption func(*registerOptions)

type registerOptions struct {
	instance, version, zone *string
	weight                  *uint32
	metadata                map[string]string
	layouts                 []*endpoint.Layout
	err                     error
}

func newRegisterOptions(opts []RegisterOption) registerOptions {
	var o registerOptions
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// apply returns what the options make of ep, which stays as it is.
func (o *registerOptions) apply(ep endpoint.Endpoint) (endpoint.Endpoint, error) {
	if o.err != nil {
		return ep, o.err
	}
	if o.instance != nil {
		ep.Instance = *o.instance
	}
	if o.version != nil {
		ep.Version = *o.version
	}
	if o.zone != nil {
		ep.Zone = *o.zone
	}
	if o.weight != nil {
		ep.Weight = *o.weight
	}
	metadata := make(map[string]string, len(ep.Metadata)+len(o.metadata))
	maps.Copy(metadata, ep.Metadata)
	maps.Copy(metadata, o.metadata)
	for name := range metadata {
		if err := endpoint.CheckMetadataName(name); err != nil {
			return ep, err
		}
	}
	ep.Metadata = metadata
	return ep, nil
}

// WithInstance sets the instance id: unique under the service key, and the same after a restart, so
// that the process takes its own entry over. Default: the advertised address.
func WithInstance(id string) RegisterOption {
	return func(o *registerOptions) { o.instance = &id }
}

// WithVersion sets the version, free text such as "v2". Default: none.
func WithVersion(version string) RegisterOption {
	return func(o *registerOptions) { o.version = &version }
}

// WithZoneTag sets the zone of the endpoint. Default: the registry's, see [WithZone].
func WithZoneTag(zone string) RegisterOption {
	return func(o *registerOptions) { o.zone = &zone }
}

// WithWeight sets the share of calls beside others' under the weighted policy. Default: 0, which
// counts as 1.
func WithWeight(weight uint32) RegisterOption {
	return func(o *registerOptions) { o.weight = &weight }
}

// WithMetadata adds a value under a name of the caller's; "version", "zone" and "weight" are taken.
// May be given many times.
func WithMetadata(name, value string) RegisterOption {
	return func(o *registerOptions) {
		if o.metadata == nil {
			o.metadata = make(map[string]string)
		}
		o.metadata[name] = value
	}
}

// WithLayouts writes the entry in these layouts, all of them, for a fleet whose readers differ. It
// is an error when two of them would write one key. Default: the service's layout.
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
