package picking

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Stats are statistics of the calls to an address. They outlast gRPC's idleness. The zero value has no calls.
type Stats struct {
	calls atomic.Int64 // counted calls under way
	peak  peak
	start atomic.Pointer[start] // nil: it has the full share
}

// Memory has the Stats of addresses, shared by all callers. The zero value is empty.
type Memory struct {
	mu    sync.Mutex
	stats map[string]*Stats
}

// Of returns the Stats of an address.
func (m *Memory) Of(addr string) *Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.stats[addr]
	if x == nil {
		if m.stats == nil {
			m.stats = make(map[string]*Stats)
		}
		x = new(Stats)
		m.stats[addr] = x
	}
	return x
}

// Len returns the number of addresses.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.stats)
}

// Keep drops unused addresses without calls under way.
func (m *Memory) Keep(used func(addr string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.stats, func(addr string, x *Stats) bool { return !used(addr) && x.UnderWay() == 0 })
}

// epoch is the zero of the clock of picks.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// UnderWay returns the number of counted calls under way.
func (x *Stats) UnderWay() int64 { return x.calls.Load() }

// Begin counts a call, and reports false if most are under way; 0: no bound.
func (x *Stats) Begin(limit int64) bool {
	if limit == 0 {
		x.calls.Add(1)
		return true
	}
	for {
		n := x.calls.Load()
		if n >= limit {
			return false
		}
		if x.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// record is a counted call, which may be timed. gRPC calls done once, when the call ends. Records
// are pooled together with done, so that a pick does not allocate.
type record struct {
	stats *Stats
	timed bool
	began time.Duration
	done  func(balancer.DoneInfo) // r.end
}

var records sync.Pool

func init() {
	records.New = func() any {
		r := &record{}
		r.done = r.end
		return r
	}
}

// End returns the function for the end of a begun call. A timed call must have been picked just now.
func (x *Stats) End(timed bool) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.stats, r.timed = x, timed
	if timed {
		r.began = time.Duration(x.peak.picked.Load())
	}
	return r.done
}

func (r *record) end(info balancer.DoneInfo) {
	x, timed, began := r.stats, r.timed, r.began
	r.stats = nil
	records.Put(r)
	x.calls.Add(-1)
	if !timed || info.Err == nil && !info.BytesReceived {
		return // not timed, or the connection was lost, and gRPC picks again
	}
	now := sinceEpoch()
	x.peak.end(now-began, now, info.Err)
}

// Ready records that an address with the entry e is ready at now. If the start time in the entry has changed, the server has
// restarted.
func (x *Stats) Ready(e *endpoint.Endpoint, now time.Time) {
	if e == nil {
		return
	}
	says, before := e.Metadata[endpoint.StartedName], x.start.Load()
	if before == nil && says == "" || before != nil && before.startTime == says {
		return
	}
	at, ok := e.Started()
	x.start.Store(&start{startTime: says, valid: ok, since: now.Sub(epoch), uptime: now.Sub(at)})
}
