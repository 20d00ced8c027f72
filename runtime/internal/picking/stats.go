package picking

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Stats are statistics of the calls to an address. They are kept while gRPC is
// idle. The zero value has no calls.
type Stats struct {
	calls atomic.Int64 // the number of counted calls under way
	peak  peak
	start atomic.Pointer[start] // nil if the address has its full share of the calls
}

// Memory has the Stats of addresses. It is safe for concurrent use. The zero
// value is empty.
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

// Keep drops each address for which used returns false and which has no calls
// under way.
func (m *Memory) Keep(used func(addr string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()

	maps.DeleteFunc(m.stats, func(addr string, x *Stats) bool {
		return !used(addr) && x.UnderWay() == 0
	})
}

// epoch is the zero of this package's times, which are durations since epoch.
var epoch = time.Now()

func sinceEpoch() time.Duration {
	return time.Since(epoch)
}

// UnderWay returns the number of counted calls under way.
func (x *Stats) UnderWay() int64 {
	return x.calls.Load()
}

// Begin counts a call. It returns false, and counts nothing, if limit calls are
// under way. A limit of 0 means no limit.
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

// record is a call that is counted and may be timed. gRPC calls the function
// done once, when the call ends. The pool keeps a record with its function, so
// that a pick does not allocate.
type record struct {
	stats         *Stats
	timed, stream bool
	began         time.Duration           // the time of the pick, since epoch
	done          func(balancer.DoneInfo) // r.end
}

var records sync.Pool

func init() {
	records.New = func() any {
		r := &record{}
		r.done = r.end

		return r
	}
}

// End returns the function to call at the end of a call for which Begin was
// called. If timed is set, the function records how long the call took since
// the last pick of the address, and its outcome. For a stream, it records only
// the outcome.
func (x *Stats) End(timed, stream bool) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.stats = x
	r.timed = timed
	r.stream = stream

	if timed {
		r.began = time.Duration(x.peak.picked.Load())
	}

	return r.done
}

func (r *record) end(info balancer.DoneInfo) {
	x := r.stats
	timed := r.timed
	stream := r.stream
	began := r.began
	r.stats = nil
	records.Put(r)
	x.calls.Add(-1)

	if !timed || info.Err == nil && !info.BytesReceived {
		return // the call is not timed, or it lost its connection, and gRPC picks again
	}

	if stream {
		x.peak.judge(info.Err)
		return
	}

	now := sinceEpoch()
	x.peak.end(now-began, now, info.Err)
}

// Ready records that the address of e is ready at now. A new slow start begins
// if the start time in e has changed: the server has restarted.
func (x *Stats) Ready(e *endpoint.Endpoint, now time.Time) {
	if e == nil {
		return
	}

	says := e.Metadata[endpoint.StartedName]
	before := x.start.Load()
	if before == nil && says == "" || before != nil && before.startTime == says {
		return
	}

	at, ok := e.Started()
	x.start.Store(&start{
		startTime: says,
		valid:     ok,
		since:     now.Sub(epoch),
		uptime:    now.Sub(at),
	})
}
