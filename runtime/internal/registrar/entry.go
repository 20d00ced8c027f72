package registrar

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/advertise"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Entry is one endpoint under a service key, in one or several layouts.
type Entry struct {
	Key      string
	Layouts  []endpoint.Layout
	TTL      time.Duration // of the lease, 0 without a lease
	Endpoint endpoint.Endpoint
	Services []string // the full names of the services at the endpoint, if known
	Checked  []string // the names that clients with health checks check there

	// Companion makes the entry's companion, and is nil if the entry has none.
	// The companion calls changed after each change that callers of
	// [Registrar.Companions] wait for.
	Companion func(e Entry, changed func()) (Companion, error)

	// the address of the listener if Endpoint.Addr is from the environment, ""
	// otherwise
	listen string
}

// Details change an endpoint. Set fields replace the endpoint's, and metadata
// is added to the endpoint's.
type Details struct {
	Instance, Version, Zone *string
	Weight                  *uint32
	Metadata                map[string]string
}

// Apply returns ep with the details. It does not change ep.
func (d Details) Apply(ep endpoint.Endpoint) (endpoint.Endpoint, error) {
	if d.Instance != nil {
		ep.Instance = *d.Instance
	}

	if d.Version != nil {
		ep.Version = *d.Version
	}

	if d.Zone != nil {
		ep.Zone = *d.Zone
	}

	if d.Weight != nil {
		ep.Weight = *d.Weight
	}

	metadata := make(map[string]string)
	maps.Copy(metadata, ep.Metadata)
	maps.Copy(metadata, d.Metadata)

	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		if err := endpoint.CheckMetadataName(name); err != nil {
			return ep, err
		}
	}

	ep.Metadata = metadata

	return ep, nil
}

// NewEntry returns an entry with its defaults, and checks everything except the
// address. Without layouts it uses [endpoint.EndpointJSON].
func NewEntry(
	key string,
	layouts []endpoint.Layout,
	ttl time.Duration,
	ep endpoint.Endpoint,
	d Details,
	services ...string,
) (Entry, error) {
	if err := endpoint.CheckKey(key); err != nil {
		return Entry{}, err
	}

	if !servicekey.ValidTTL(ttl) {
		return Entry{}, fmt.Errorf(
			"the lease TTL is %v: want whole seconds from 1 s to 24 h", ttl)
	}

	ep, err := d.Apply(ep)
	if err != nil {
		return Entry{}, err
	}

	if len(layouts) == 0 {
		layouts = []endpoint.Layout{endpoint.EndpointJSON}
	}

	for _, l := range layouts {
		if err := l.Check(); err != nil {
			return Entry{}, err
		}
	}

	return Entry{
		Key:      key,
		Layouts:  layouts,
		TTL:      ttl,
		Endpoint: ep,
		Services: services,
	}, nil
}

// Unleased returns an entry without a lease, which stays until it is removed.
func Unleased(
	key string,
	layouts []endpoint.Layout,
	ep endpoint.Endpoint,
	d Details,
) (Entry, error) {
	e, err := NewEntry(key, layouts, time.Second, ep, d)
	i := slices.IndexFunc(e.Layouts, endpoint.Layout.LeaseInKey)
	if err == nil && i >= 0 {
		err = fmt.Errorf("layout %s needs a lease: use Register, or another layout",
			e.Layouts[i])
	}

	e.TTL = 0

	return e, err
}

// join returns e with the services of o, which has the same key, and with the
// details d of o.
func (e Entry) join(o Entry, d Details) (Entry, error) {
	both := fmt.Sprintf("services %s and %s share the key %q and must agree on",
		e.Services[0], o.Services[0], e.Key)
	if !slices.Equal(e.Layouts, o.Layouts) {
		return e, fmt.Errorf("%s the layout: %v and %v", both, e.Layouts, o.Layouts)
	}

	if e.TTL != o.TTL {
		return e, fmt.Errorf("%s the lease TTL: %v and %v", both, e.TTL, o.TTL)
	}

	ep, err := d.Apply(e.Endpoint)
	if err != nil {
		return e, err
	}

	e.Endpoint = ep
	e.Services = slices.Concat(e.Services, o.Services)
	e.Checked = slices.Concat(e.Checked, o.Checked)

	if e.Companion == nil {
		e.Companion = o.Companion
	}

	return e, nil
}

// at returns the entry with an address, and its items. It adds metadata: the
// names of each service's methods, and the time at which the server was
// started. Callers need the methods during a rollout that adds one. If the mark
// of leaving would not fit, at omits the start time, or else the methods, or
// else both.
func (e Entry) at(
	addr string,
	started time.Time,
	methods map[string][]string,
	namespace string,
) (_ Entry, items []lease.Item, err error) {
	e.Endpoint.Addr = addr
	bare := e.complete().Endpoint
	full := bare
	if text := methodsText(e.Services, methods); text != "" {
		full = bare.WithMethods(text)
	}

	for _, ep := range []endpoint.Endpoint{
		full.WithStarted(started),
		full,
		bare.WithStarted(started),
		bare,
	} {
		e.Endpoint = ep

		items, err = e.items(namespace)
		if err == nil && e.markable(items) {
			break
		}
	}

	return e, items, err
}

// markable reports whether the mark of leaving fits in each layout with
// metadata.
func (e Entry) markable(items []lease.Item) bool {
	for i, layout := range e.Layouts {
		if layout.Metadata() && items[i].Leaving == "" {
			return false
		}
	}

	return true
}

// methodsText returns the methods as metadata, "" if they are too long or
// unknown.
func methodsText(services []string, methods map[string][]string) string {
	var parts []string
	for _, service := range slices.Sorted(slices.Values(services)) {
		if names, served := methods[service]; served {
			parts = append(parts,
				service+"/"+strings.Join(slices.Sorted(slices.Values(names)), ","))
		}
	}

	text := strings.Join(parts, ";")
	if len(text) > endpoint.MaxMethods {
		return ""
	}

	return text
}

// complete returns the entry with the defaults that depend on its address.
func (e Entry) complete() Entry {
	e.Endpoint.Instance = cmp.Or(e.Endpoint.Instance, e.Endpoint.Addr)
	return e
}

// warning returns why a framework's own reader may fail on the entry, "" if
// none does.
func (e Entry) warning() string {
	for _, own := range e.Layouts {
		for _, other := range e.Layouts {
			if does := endpoint.Trouble(own, other); does != "" {
				return fmt.Sprintf("%s: leave out the layout %s", does, other)
			}
		}
	}

	return ""
}

// items returns the etcd keys and values of a complete entry, one for each
// layout.
func (e Entry) items(namespace string) ([]lease.Item, error) {
	if err := advertise.Check(e.Endpoint.Addr); err != nil {
		return nil, err
	}

	var items []lease.Item
	for i, layout := range e.Layouts {
		value, err := layout.Encode(e.Key, e.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("layout %s: %w", layout, err)
		}

		for _, other := range e.Layouts[:i] {
			if err := e.collision(layout, other); err != nil {
				return nil, err
			}
		}

		items = append(items, lease.Item{
			Key: func(id clientv3.LeaseID) string {
				return namespace + layout.Key(e.Key, e.Endpoint, int64(id))
			},
			Value:   string(value),
			Leaving: e.leaving(layout),
		})
	}

	// after Encode has checked the address, which is the default id
	if err := endpoint.CheckInstance(e.Endpoint.Instance); err != nil {
		return nil, err
	}

	return items, nil
}

// collision returns an error if two layouts would write one key.
func (e Entry) collision(layout, other endpoint.Layout) error {
	key := layout.Key(e.Key, e.Endpoint, 1)
	if key != other.Key(e.Key, e.Endpoint, 1) {
		return nil
	}

	if layout.LeaseInKey() != other.LeaseInKey() {
		return fmt.Errorf(
			"layouts %s and %s would write one key on the lease %s: an instance id that is a decimal number may be a lease id, set another one",
			other, layout, e.Endpoint.Instance)
	}

	return fmt.Errorf("layouts %s and %s would write one key, %q: %s", other, layout,
		key, endpoint.Remedy(layout, other))
}

// leaving returns the value with the mark of leaving. It is "" if the mark does
// not fit: the layout has no metadata, or the value would be too long.
func (e Entry) leaving(layout endpoint.Layout) string {
	if !layout.Metadata() {
		return ""
	}

	value, err := layout.Encode(e.Key, e.Endpoint.WithLeaving())
	if err != nil {
		return ""
	}

	return string(value)
}

// update returns the entry with new details, under the same etcd keys.
func (e Entry) update(layouts []endpoint.Layout, d Details) (Entry, error) {
	if layouts != nil && !slices.Equal(layouts, e.Layouts) {
		return e, errors.New("WithLayouts: an update cannot change the layouts")
	}

	ep, err := d.Apply(e.Endpoint)
	if err != nil {
		return e, err
	}

	if ep.Instance != e.Endpoint.Instance {
		return e, fmt.Errorf(
			"an update cannot change the instance id %q to %q: close the registration and register again",
			e.Endpoint.Instance, ep.Instance)
	}

	e.Endpoint = ep

	return e, nil
}

// names returns a name for each layout of the entry. No other entry of the
// process may have the same name. The name is the etcd key without the
// namespace or, if that key contains a lease id, the service key, the layout
// and the address.
func (e Entry) names() (names []string) {
	for _, layout := range e.Layouts {
		name := layout.Key(e.Key, e.Endpoint, 0)
		if layout.LeaseInKey() {
			name = fmt.Sprintf("%s (%s at %s)", e.Key, layout, e.Endpoint.Addr)
		}

		names = append(names, name)
	}

	return names
}

func (e Entry) suffixed() bool {
	return slices.Contains(e.Layouts, endpoint.LeaseSuffix)
}

// overlap returns an error if readers could mistake the entries of one of two
// service keys for the other's.
func overlap(outer, inner *Entry) error {
	if len(outer.Key) > len(inner.Key) {
		outer, inner = inner, outer
	}

	switch servicekey.OverlapOf(outer.Key, inner.Key, outer.suffixed()) {
	case servicekey.Nested:
		return fmt.Errorf(
			"the key %q is nested under the key %q: readers of the outer one would see its entries",
			inner.Key, outer.Key)

	case servicekey.Continued:
		return fmt.Errorf(
			"the key %q continues the key %q, of layout %s, with a digit: its entries would look like lease ids",
			inner.Key, outer.Key, endpoint.LeaseSuffix)

	}

	return nil
}
