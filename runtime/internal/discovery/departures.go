package discovery

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// departures counts the connections of a key whose calls leave for another cluster.
type departures struct {
	connections atomic.Int64

	mu     sync.Mutex
	logged bool // that calls have left
	limit  loglimit.Limiter
}

// offered returns what a key offers to connections that fall back on it, nil once its registry is closed: nothing tells of
// changes any more. The key may be nil, which offers nothing.
func (k *Key) offered() *State {
	if k == nil || k.keys.closed.Load() {
		return nil
	}
	return k.State()
}

// CallsLeave notes that the calls of a connection leave for another cluster, or no longer do. It logs when the first leaves and
// the last is back.
func (k *Key) CallsLeave(leave bool) {
	change := int64(1)
	if !leave {
		change = -1
	}
	if n := k.departures.connections.Add(change); n-change > 0 && n > 0 {
		return
	}
	if ok, missed := k.departures.log(leave); ok && leave {
		k.keys.cfg.Logger.Warn("calls go to the cluster to fall back on: at home too few endpoints serve them", loglimit.Attrs(missed, "key", k.Full())...)
	} else if ok {
		k.keys.cfg.Logger.Info("calls are back from the cluster to fall back on", "key", k.Full())
	}
}

// log reports whether to log a departure, or a return, and how many departures were not logged. A return is logged if its departure
// was.
func (d *departures) log(leave bool) (ok bool, missed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !leave {
		ok, d.logged = d.logged, false
		return ok, 0
	}
	d.logged, missed = d.limit.Allow(time.Now())
	return d.logged, missed
}

// Away returns the number of connections whose calls leave for another cluster, some or all of them.
func (k *Key) Away() int { return int(k.departures.connections.Load()) }
