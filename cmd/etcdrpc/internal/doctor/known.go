package doctor

import (
	"context"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Glance finds what is wrong with services that have been read, as far as it shows without their leases. They are sorted
// by key, full returns a key as etcd has it, and endpoints are etcd's.
func Glance(services []*survey.Service, full func(key string) string, endpoints []string) *Report {
	p := known(services, full, endpoints)
	return p.report(&Options{noDial: true})
}

// Known finds what is wrong with one of the services that have been read, which are sorted by key. It looks at the leases
// of that one, and connects to no instance.
func Known(ctx context.Context, s *store.Store, services []*survey.Service, key string) (*Report, error) {
	p := known(services, s.Full, s.Endpoints())
	p.key = key
	if at, found := slices.BinarySearchFunc(services, key, compareKeys); found {
		own := *services[at] // entries that have gone are taken out of it
		own.Instances, own.Malformed = slices.Clone(own.Instances), slices.Clone(own.Malformed)
		p.services = slices.Clone(services)
		p.services[at] = &own
	}
	if err := p.readLeases(ctx, s); err != nil {
		return nil, err
	}
	return p.report(&Options{noDial: true}), ctx.Err()
}

// known returns what is looked at of services that have been read. That the password is sent without TLS is no fault of
// theirs.
func known(services []*survey.Service, full func(key string) string, endpoints []string) *patient {
	p := &patient{services: services, full: full, etcd: etcdHosts(endpoints)}
	p.alone = p.oneHost()
	return p
}
