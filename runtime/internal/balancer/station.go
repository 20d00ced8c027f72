package balancer

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// station is what is remembered of the calls to an address, while gRPC is idle, too.
type station struct {
	calls atomic.Int64 // under way, of those that were counted
	peak  peak
	start atomic.Pointer[start] // nil: it has the full share
}

// epoch is the zero of the clock that picks go by.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// enter counts a call unless there are as many as may be; 0: any number.
func (x *station) enter(most int64) bool {
	if most == 0 {
		x.calls.Add(1)
		return true
	}
	for {
		n := x.calls.Load()
		if n >= most {
			return false
		}
		if x.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// record is a call that is counted at a station, and may be measured. gRPC calls done once, when the call ends. Records
// are pooled together with these functions, so that a pick allocates nothing.
type record struct {
	station *station
	timed   bool
	began   time.Duration
	done    func(balancer.DoneInfo) // r.end
}

var records sync.Pool

func init() {
	records.New = func() any {
		r := &record{}
		r.done = r.end
		return r
	}
}

// recorded returns the function for the end of a call that has entered a station. One that is timed was picked just now.
func recorded(x *station, timed bool) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.station, r.timed = x, timed
	if timed {
		r.began = time.Duration(x.peak.picked.Load())
	}
	return r.done
}

func (r *record) end(info balancer.DoneInfo) {
	x, timed, began := r.station, r.timed, r.began
	r.station = nil
	records.Put(r)
	x.calls.Add(-1)
	if !timed || info.Err == nil && !info.BytesReceived {
		return // or the connection was lost, and gRPC picks again
	}
	now := sinceEpoch()
	x.peak.end(now-began, now, info.Err)
}

// cost returns what a call to x costs if it takes latency.
func (x *station) cost(latency float64) float64 {
	return latency * (float64(x.calls.Load()) + 1) / (1 - loadFloat(&x.peak.failing))
}

// costs returns what calls to x and to o cost. A latency that is not known yet is assumed to be the other's, so that new
// endpoints share the calls with old ones by how many are under way.
func (x *station) costs(o *station) (mine, others float64) {
	mine, others = loadFloat(&x.peak.latency), loadFloat(&o.peak.latency)
	switch {
	case mine == 0 && others == 0:
		mine, others = 1, 1
	case mine == 0:
		mine = others
	case others == 0:
		others = mine
	}
	return x.cost(mine), o.cost(others)
}

// cheaper reports whether a call to x costs no more than one to o.
func (x *station) cheaper(o *station) bool {
	mine, others := x.costs(o)
	return mine <= others
}

// dearer reports whether a call to x costs much more than one to o.
func (x *station) dearer(o *station) bool {
	mine, others := x.costs(o)
	return mine > muchDearer*others
}

// see notes that an address with the entry e is ready at now. If the entry names another time than before, the server has
// restarted.
func (x *station) see(e *endpoint.Endpoint, now time.Time) {
	if e == nil {
		return
	}
	says, before := e.Metadata[endpoint.StartedName], x.start.Load()
	if before == nil && says == "" || before != nil && before.says == says {
		return
	}
	at, ok := e.Started()
	x.start.Store(&start{says: says, known: ok, since: now.Sub(epoch), ran: now.Sub(at)})
}
