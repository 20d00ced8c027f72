package discovery

import (
	"log/slog"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/events"
)

// departures counts the connections of a key whose calls leave for another cluster.
type departures struct {
	lines *events.Queue // to log: a log handler may take its time, or ask for the status

	logging sync.WaitGroup

	mu          sync.Mutex
	connections int
	closed      bool
	logged      bool        // that calls have left
	later       *time.Timer // for the line that was too much; nil: none was
	limit       loglimit.Limiter
}

func newDepartures() *departures {
	d := &departures{}
	d.lines = events.NewQueue(func() { d.logging.Go(d.log) })
	return d
}

// close has nothing logged any more, and waits for what is being logged.
func (d *departures) close() {
	d.mu.Lock()
	d.closed = true
	if d.later != nil {
		d.later.Stop()
	}
	d.mu.Unlock()
	d.logging.Wait()
}

func (d *departures) log() {
	for lines := d.lines.All(); len(lines) > 0; lines = d.lines.All() {
		for _, line := range lines {
			line()
		}
	}
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
func (k *Key) CallsLeave(leave bool) { k.departures.count(leave, k.keys.cfg.Logger, k.Full()) }

// count counts a connection whose calls leave, or are back, and has that logged.
func (d *departures) count(leave bool, logger *slog.Logger, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.connections
	if leave {
		d.connections++
	} else {
		d.connections--
	}
	switch {
	case d.closed, (before == 0) == (d.connections == 0):
	case leave:
		d.logLeft(logger, key)
	case d.logged:
		d.logged = false
		d.lines.Put(func() { logger.Info("calls are back from the cluster to fall back on", "key", key) })
	}
}

// logLeft logs that calls have left, later if too much is logged now. It must be called with mu held.
func (d *departures) logLeft(logger *slog.Logger, key string) {
	if d.closed || d.connections == 0 || d.logged {
		return
	}
	var missed int
	if d.logged, missed = d.limit.Allow(time.Now()); d.logged {
		d.lines.Put(func() {
			logger.Warn("calls go to the cluster to fall back on: at home too few endpoints serve them", loglimit.Attrs(missed, "key", key)...)
		})
	} else if d.later == nil {
		d.later = time.AfterFunc(d.limit.Next(time.Now()), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.later = nil
			d.logLeft(logger, key)
		})
	}
}

// Away returns the number of connections whose calls leave for another cluster, some or all of them.
func (k *Key) Away() int {
	k.departures.mu.Lock()
	defer k.departures.mu.Unlock()
	return k.departures.connections
}
