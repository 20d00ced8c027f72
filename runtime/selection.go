package runtime

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// selection is what WithSelector and WithSubset make of a set, nil where they were not given. seed
// tells this client from others.
func (o *clientOptions) selection(seed maphash.Seed) func([]*discovery.Backend) []*discovery.Backend {
	if o.selector == nil && o.subset < 1 {
		return nil
	}
	return func(backends []*discovery.Backend) []*discovery.Backend {
		if o.selector != nil {
			backends = slices.DeleteFunc(slices.Clone(backends), func(b *discovery.Backend) bool {
				return !o.selector(Endpoint(b.Endpoint))
			})
		}
		if o.subset > 0 && len(backends) > o.subset {
			backends = subset(backends, o.subset, seed)
		}
		return backends
	}
}

// subset returns the n backends that rank highest for this client, by rendezvous hashing: a backend
// that comes or goes changes one place at the most, and each client ranks them differently.
func subset(backends []*discovery.Backend, n int, seed maphash.Seed) []*discovery.Backend {
	type ranked struct {
		index int
		score uint64
	}
	ranks := make([]ranked, len(backends))
	for i, b := range backends {
		ranks[i] = ranked{i, maphash.String(seed, b.Endpoint.Instance)}
	}
	slices.SortFunc(ranks, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	ranks = ranks[:n]
	slices.SortFunc(ranks, func(a, b ranked) int { return a.index - b.index })
	chosen := make([]*discovery.Backend, n)
	for i, r := range ranks {
		chosen[i] = backends[r.index]
	}
	return chosen
}
