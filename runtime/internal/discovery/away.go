package discovery

import (
	"log/slog"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

// away counts the connections of a key whose calls leave for another cluster.
type away struct {
	mu          sync.Mutex
	connections int
	logged      bool // that calls have left
	limit       loglimit.Limiter
	lines       []func() // to log, in this order
	logging     bool     // somebody does
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
	a.count(leave, k.keys.cfg.Logger, k.Full())
	if a.logging {
		return
	}
	a.logging = true
	for len(a.lines) > 0 {
		line := a.lines[0]
		a.lines = a.lines[1:]
		a.mu.Unlock()
		line() // with no lock held: a log handler may ask for the status
		a.mu.Lock()
	}
	a.logging = false
}

// count counts a connection whose calls leave, or are back, and notes what to log of that.
func (a *away) count(leave bool, logger *slog.Logger, key string) {
	before := a.connections
	if leave {
		a.connections++
	} else {
		a.connections--
	}
	switch {
	case (before == 0) == (a.connections == 0):
	case leave:
		var missed int
		if a.logged, missed = a.limit.Allow(time.Now()); a.logged {
			a.lines = append(a.lines, func() {
				logger.Warn("calls go to the cluster to fall back on: at home too few endpoints serve them", loglimit.Attrs(missed, "key", key)...)
			})
		}
	case a.logged:
		a.lines = append(a.lines, func() { logger.Info("calls are back from the cluster to fall back on", "key", key) })
	}
}

// Away returns the number of connections whose calls leave for another cluster, some or all of them.
func (k *Key) Away() int {
	k.away.mu.Lock()
	defer k.away.mu.Unlock()
	return k.away.connections
}
