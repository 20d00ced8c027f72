package runtime

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// entrySpec is what is to be announced.
type entrySpec struct {
	key     string
	ep      endpoint.Endpoint
	layouts []*endpoint.Layout // unless the options say otherwise; nil: EndpointJSON
	ttl     time.Duration
	opts    []RegisterOption
}

// announce starts to keep an entry in etcd. It does no I/O.
func (r *Registry) announce(spec entrySpec, paused bool) (*Registration, error) {
	if err := endpoint.CheckKey(spec.key); err != nil {
		return nil, err
	}
	if err := checkTTL(spec.ttl); err != nil {
		return nil, err
	}
	ep, layouts, err := r.resolve(spec)
	if err != nil {
		return nil, err
	}
	items, err := r.items(spec.key, ep, layouts)
	if err != nil {
		return nil, err
	}
	g := &Registration{registry: r, key: spec.key, layouts: layouts, ep: ep}
	if err := r.regs.start(r, g, items, spec.ttl, paused); err != nil {
		return nil, err
	}
	return g, nil
}

// resolve applies the options and the defaults.
func (r *Registry) resolve(spec entrySpec) (endpoint.Endpoint, []*endpoint.Layout, error) {
	o := newRegisterOptions(spec.opts)
	ep, err := o.apply(spec.ep)
	if err != nil {
		return ep, nil, err
	}
	if ep.Zone == "" && o.zone == nil {
		ep.Zone = r.opts.zone
	}
	if ep.Instance == "" {
		ep.Instance = ep.Addr
	}
	layouts := slices.Clone(spec.layouts)
	if o.layouts != nil {
		layouts = o.layouts
	}
	if len(layouts) == 0 {
		layouts = []*endpoint.Layout{endpoint.EndpointJSON}
	}
	bare := slices.IndexFunc(layouts, func(l *endpoint.Layout) bool { return !l.JSON() })
	if bare >= 0 && slices.Contains(layouts, endpoint.Kratos) {
		r.opts.logger.Warn("kratos' own readers fail on a list that holds a value which is not JSON",
			"key", spec.key, "leave out", layouts[bare].String())
	}
	return ep, layouts, nil
}

// items are the keys and values of an endpoint, one a layout.
func (r *Registry) items(key string, ep endpoint.Endpoint, layouts []*endpoint.Layout) ([]lease.Item, error) {
	if err := checkAdvertised(ep.Addr); err != nil {
		return nil, err
	}
	if err := endpoint.CheckInstance(ep.Instance); err != nil {
		return nil, err
	}
	items := make([]lease.Item, len(layouts))
	for i, layout := range layouts {
		value, err := layout.Encode(key, ep)
		if err != nil {
			return nil, fmt.Errorf("layout %s: %w", layout, err)
		}
		for _, other := range layouts[:i] {
			if layout.Key(key, ep, 1) == other.Key(key, ep, 1) {
				return nil, fmt.Errorf("layouts %s and %s would write one key, %q: leave one out, or set another instance id",
					other, layout, layout.Key(key, ep, 1))
			}
		}
		items[i] = lease.Item{
			Key:   func(id clientv3.LeaseID) string { return r.opts.namespace + layout.Key(key, ep, int64(id)) },
			Value: string(value),
		}
	}
	return items, nil
}

// checkAdvertised refuses what no other host could dial.
func checkAdvertised(addr string) error {
	if addr == "" {
		return errors.New("the endpoint has no address")
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]") // a layout may do without a port
	}
	_, number := strconv.ParseUint(host, 10, 64)
	if ip, err := netip.ParseAddr(host); number == nil || err == nil && ip.Unmap().IsUnspecified() {
		return fmt.Errorf("address %q: nobody can dial %s: name an address of this host", addr, host)
	}
	return nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Second || ttl > 24*time.Hour || ttl%time.Second != 0 {
		return fmt.Errorf("the lease TTL is %v: want whole seconds from 1 s to 24 h", ttl)
	}
	return nil
}
