package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// departures counts the connections of a key whose calls leave for the fallback.
type departures struct {
	connections atomic.Int64 // written with mu held

	mu     sync.Mutex
	logged bool // that calls have left
	limit  loglimit.Limiter
}

// CallsLeave records whether the calls of a connection leave for the fallback. It logs when the first connection leaves and
// when the last is back, unless that is often.
func (k *Key) CallsLeave(leave bool) {
	d := &k.departures
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case leave:
		if d.connections.Add(1) == 1 {
			var missed int
			if d.logged, missed = d.limit.Allow(time.Now()); d.logged {
				k.keys.cfg.Logger.Warn("calls go to the cluster to fall back on: at home too few endpoints serve them", loglimit.Attrs(missed, "key", k.Full())...)
			}
		}
	case d.connections.Add(-1) == 0 && d.logged:
		d.logged = false
		k.keys.cfg.Logger.Info("calls are back from the cluster to fall back on", "key", k.Full())
	}
}

// Away returns the number of connections with calls that leave for the fallback.
func (k *Key) Away() int { return int(k.departures.connections.Load()) }
