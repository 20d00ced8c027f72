package runtime

import (
	"log/slog"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// source is where the news of one service key comes from: the two watches of it.
type source struct {
	registry  *Registry
	key       string
	configKey string
	rng       listwatch.Range
	live      *liveConfig
}

func (r *Registry) source(key string, leaseSuffix bool) *source {
	from, end := endpoint.Range(r.opts.namespace+key, leaseSuffix)
	configKey := r.configKey(key)
	return &source{
		registry: r, key: key, configKey: configKey,
		rng:  listwatch.Range{From: from, End: end},
		live: &liveConfig{key: configKey, logger: r.opts.logger, metrics: r.metrics},
	}
}

// configKey is the etcd key of the live service config of a service key.
func (r *Registry) configKey(key string) string {
	return r.opts.namespace + endpoint.ReservedSegment + "/" + key
}

// Endpoints implements [discovery.Source].
func (s *source) Endpoints(user func(discovery.Endpoints)) (stop func()) {
	var m merger
	return s.follow(func(u listwatch.Update[*discovery.Backend]) {
		user(m.news(u))
	})
}

func (s *source) follow(user func(listwatch.Update[*discovery.Backend])) (stop func()) {
	key := s.registry.opts.namespace + s.key
	return s.registry.endpoints.Follow(listwatch.Spec[*discovery.Backend]{
		Range: s.rng,
		Decode: func(etcdKey string, value []byte, lease int64) (*discovery.Backend, bool, error) {
			e, layout, ok, err := endpoint.Decode(key, etcdKey, value, lease)
			if err != nil || !ok {
				return nil, ok, err
			}
			return discovery.NewBackend(e, layout), true, nil
		},
	}, user)
}

// news is an update of the range as news of the endpoints in it.
func (m *merger) news(u listwatch.Update[*discovery.Backend]) discovery.Endpoints {
	n := discovery.Endpoints{Err: u.Err, Definite: answered(u.Err)}
	if u.Snapshot != nil {
		n.Backends, n.Known, n.Provisional = m.merge(u.Snapshot.Items), true, u.Snapshot.Provisional
	}
	return n
}

// answered tells whether err is what etcd itself answered, rather than that it did not.
func answered(err error) bool {
	code, ok := etcderr.Answer(err)
	return ok && etcderr.Refused(code)
}

// ServiceConfig implements [discovery.Source]. A live config that gRPC would refuse is reported and
// the last good one kept; one that must not be read counts as none.
func (s *source) ServiceConfig(user func(discovery.ServiceConfig)) (stop func()) {
	return s.registry.configs.Follow(listwatch.Spec[string]{
		Range: listwatch.Range{From: s.configKey},
		// Checked below, where the last good one is known.
		Decode: func(_ string, value []byte, _ int64) (string, bool, error) { return string(value), true, nil },
	}, func(u listwatch.Update[string]) { user(s.live.update(u)) })
}

// liveConfig is the last good live service config of one key.
type liveConfig struct {
	key     string
	logger  *slog.Logger
	metrics *metrics

	mu   sync.Mutex
	raw  string // as last checked
	good string
}

func (l *liveConfig) update(u listwatch.Update[string]) discovery.ServiceConfig {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := u.Snapshot != nil || answered(u.Err)
	if u.Snapshot == nil {
		return discovery.ServiceConfig{JSON: l.good, Known: known}
	}
	raw := ""
	if len(u.Snapshot.Items) > 0 {
		raw = u.Snapshot.Items[0].Value
	}
	if raw == l.raw {
		return discovery.ServiceConfig{JSON: l.good, Known: true}
	}
	l.raw = raw
	if raw != "" {
		if err := serviceconfig.CheckLive(raw); err != nil {
			l.logger.Warn("bad live service config in etcd; the last good one stays in force", "key", l.key, "error", err)
			l.metrics.malformed(l.key)
			return discovery.ServiceConfig{JSON: l.good, Known: true}
		}
	}
	l.good = raw
	return discovery.ServiceConfig{JSON: l.good, Known: true}
}
