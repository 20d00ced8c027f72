package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// examination is the data that doctor examines, and its findings.
type examination struct {
	*Options
	full                func(key string) string // returns the full key in etcd
	services            []*inventory.Service    // sorted by key
	leases              map[int64]lease
	etcd                []string                     // hosts of etcd
	oneHost             bool                         // etcd and all instances are on one host
	probed              bool                         // connections to the addresses were tried
	dialErrors          map[string]error             // by address
	health              map[serviceAddr]healthResult // of the instances that were checked
	unreachableFindings map[string]int               // indices into findings, by address
	findings            []Finding
}

// read reads the service at key or, if there is none, the services whose keys begin with it.
func (p *examination) read(ctx context.Context, s *store.Store, key string) (err error) {
	n := &store.Snapshot{}
	if endpoint.CheckKey(key) == nil {
		n, err = s.At(ctx, key)
	}
	if err == nil && (len(n.Services) == 0 || isAbsent(n.Services[0])) {
		n, err = s.Under(ctx, key)
		n = keepEvident(n)
	}
	switch {
	case errors.Is(err, store.ErrDenied):
		p.report(KindPermission, err.Error()+", so no service can be found", fmt.Sprintf("look at a KEY that this user may read, or: etcdctl role grant-permission --prefix ROLE read %s", output.Shell(s.Full(key))))
		return nil
	case err != nil:
		return err
	}
	if n.Denied != nil {
		p.report(KindPermission, n.Denied.Error()+", so live policies and drains are not checked", "have an operator's role look (docs/security.md), or one that may read the live policies")
	}
	p.services = n.Services
	if key != "" && len(p.services) == 0 {
		p.report(KindEmpty, "nothing is registered there",
			"if servers of it are running, compare their key and namespace with these, and look at their logs; etcdrpc ls shows what there is", key)
	}
	return nil
}

func keepEvident(n *store.Snapshot) *store.Snapshot {
	if n != nil {
		n.Services = slices.DeleteFunc(n.Services, func(s *inventory.Service) bool { return !s.Evident() })
	}
	return n
}

// addresses returns the addresses to connect to, without duplicates.
func (p *examination) addresses() []string {
	set := make(map[string]bool)
	for _, s := range p.services {
		for _, i := range s.Instances {
			if !i.Leaving() {
				set[i.Addr] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(set)), p.isMisleading)
}
