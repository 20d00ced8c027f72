package discovery

import (
	"slices"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// Standing is how an instance that stands for election sees the candidates, and the drain of its service's live config.
type Standing struct {
	*Candidates
	instance, addr string
	drain          atomic.Pointer[[]string] // instances and addresses; nil: none
}

// Standing returns how an instance sees the candidates for a service key.
func (ks *Keys) Standing(name, instance, addr string) *Standing {
	return &Standing{Candidates: ks.Candidates(name), instance: instance, addr: addr}
}

// Read implements [election.Candidates].
func (s *Standing) Read(notify func()) (stop func()) {
	stopCandidates := s.read(&candidateReader{notify, true})
	stopConfig := s.keys.live.follow(ConfigKey(s.keys.cfg.Namespace, s.name), func(u listwatch.Update[liveConfig]) {
		if u.Snapshot == nil {
			return
		}
		var drain *[]string
		if len(u.Snapshot.Items) > 0 {
			config, err := s.keys.cfg.parse(u.Snapshot.Items[0].Value)
			if err != nil {
				return // the last good one stays in force
			}
			for _, policy := range config.LoadBalancing[:min(len(config.LoadBalancing), 1)] {
				if e := policy.Etcd(); e != nil {
					drain = &e.Drain
				}
			}
		}
		s.drain.Store(drain)
		notify()
	})
	return func() { stopConfig(); stopCandidates() }
}

// View implements [election.Candidates].
func (s *Standing) View() election.View {
	seen := s.seen.Load()
	return election.View{First: seen.First, Blind: seen.blind, Yields: s.yields(seen.all)}
}

// yields reports whether the drain names the instance, and not another one that stands.
func (s *Standing) yields(all []*listwatch.Item[string]) bool {
	drain := s.drain.Load()
	if drain == nil || !slices.Contains(*drain, s.instance) && !slices.Contains(*drain, s.addr) {
		return false
	}
	return slices.ContainsFunc(all, func(other *listwatch.Item[string]) bool {
		return other.Value != s.instance && !slices.Contains(*drain, other.Value)
	})
}
