package discovery

import (
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// away counts the connections of a key whose calls leave for another cluster.
type away struct {
	mu          sync.Mutex
	connections int
	logged      bool // that calls have left
	lines       loglimit.Limiter
}

// offered returns what a key offers to connections that fall back on it, nil once its registry is closed: nothing tells of
// changes any more. The key may be nil, which offers nothing.
func (k *Key) offered() *State {
	if k == nil || k.keys.closed.Load() {
		return nil
	}
	return k.State()
}

// Left notes that the calls of a connection leave for another cluster, or no longer do, and logs when the first leaves and the last is back.
func (k *Key) Left(leave bool) {
	a := &k.away
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.connections
	if leave {
		a.connections++
	} else {
		a.connections--
	}
	if (before == 0) == (a.connections == 0) {
		return
	}
	logger := k.keys.cfg.Logger
	if !leave {
		if a.logged {
			logger.Info("calls are back from the cluster to fall back on", "key", k.Full())
		}
		return
	}
	var missed int
	if a.logged, missed = a.lines.Allow(time.Now()); a.logged {
		logger.Warn("calls go to the cluster to fall back on: at home too few endpoints serve them", loglimit.Attrs(missed, "key", k.Full())...)
	}
}

// Away returns the number of connections whose calls leave for another cluster, some or all of them.
func (k *Key) Away() int {
	k.away.mu.Lock()
	defer k.away.mu.Unlock()
	return k.away.connections
}
