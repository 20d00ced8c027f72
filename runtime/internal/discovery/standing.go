package discovery

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// Standing is a candidate's view of all candidates, and of the drain in its service's live config.
type Standing struct {
	*Candidates
	instance, addr string
	reader         endpoint.Reader
	live           atomic.Pointer[livePolicy] // nil: none
}

// livePolicy is the policy of a live config.
type livePolicy struct {
	*serviceconfig.Etcd
	key *Key // has the endpoints, of which the policy drains some; nil: it drains all that it names
}

// Standing returns an instance's view of the candidates for a service key; layouts are those of its entry.
func (ks *Keys) Standing(name, instance, addr string, layouts []endpoint.Layout) *Standing {
	reader, _ := endpoint.NewReader(layouts...) // no reader reads two JSON layouts: then no instance counts as drained
	return &Standing{Candidates: ks.Candidates(name), instance: instance, addr: addr, reader: reader}
}

// Read implements [election.Candidates].
func (s *Standing) Read(notify func()) (stop func()) {
	stopCandidates := s.Candidates.Read(notify)
	var mu sync.Mutex
	stopKey, stopped := func() {}, false
	take := func(policy *serviceconfig.Etcd) {
		mu.Lock()
		defer mu.Unlock()
		stopKey()
		stopKey = func() {}
		if policy == nil || stopped {
			s.live.Store(nil)
			return
		}
		live := &livePolicy{Etcd: policy}
		if len(policy.Drain) > 0 && (policy.MinHealthyPercent > 0 || len(policy.Route) > 0) {
			live.key = s.keys.Key(s.name, s.reader)
			stopKey = live.key.Read(notify)
		}
		s.live.Store(live)
	}
	stopConfig := s.keys.followConfig(s.name, func(u listwatch.Update[liveConfig]) {
		if u.Snapshot == nil {
			return
		}
		var policy *serviceconfig.Etcd
		if len(u.Snapshot.Items) > 0 {
			// Callers link the config's policies; this process need not.
			config, err := s.keys.cfg.parse(u.Snapshot.Items[0].Value, serviceconfig.ParseLive)
			if err != nil {
				return // the last valid one stays in force
			}
			if list := config.LoadBalancing; len(list) > 0 {
				policy = list[0].Etcd()
			}
		}
		take(policy)
		notify()
	})
	return func() {
		stopConfig()
		mu.Lock()
		stopped = true
		mu.Unlock()
		take(nil)
		stopCandidates()
	}
}

// View implements [election.Candidates].
func (s *Standing) View() election.View {
	seen := s.seen.Load()
	return election.View{Known: seen.known, First: seen.First, Blind: refused(seen.err), Yields: s.yields(seen.all)}
}

// yields reports whether the instance is drained and another candidate is not. Before the key is known, no instance is drained.
func (s *Standing) yields(all []*listwatch.Item[string]) bool {
	live := s.live.Load()
	if live == nil || !slices.Contains(live.Drain, s.instance) && !slices.Contains(live.Drain, s.addr) {
		return false
	}
	drained := func(instance string) bool { return instance == s.instance || slices.Contains(live.Drain, instance) }
	if live.key != nil {
		state := live.key.State()
		of := state.Drained(live.Etcd)
		drained = func(instance string) bool {
			id := state.NameOf(instance)
			i := slices.IndexFunc(state.Backends, func(b *Backend) bool { return b.Endpoint.Instance == id })
			return i >= 0 && of[&state.Backends[i].Endpoint]
		}
	}
	return drained(s.instance) && slices.ContainsFunc(all, func(other *listwatch.Item[string]) bool { return !drained(other.Value) })
}
