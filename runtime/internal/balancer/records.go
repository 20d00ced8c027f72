package balancer

import (
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
)

// record is a call under way at a station, which counts toward the bound or whose time is measured. gRPC calls done
// once, when the call ends. Records are pooled together with these functions, so that a pick allocates nothing.
type record struct {
	station *station
	timed   *stations // has the clock; nil: the call counts toward the bound
	began   time.Duration
	then    func(balancer.DoneInfo) // done of the policy below; may be nil
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

// hold returns the function for the end of a call that counts toward the bound of a station, which it has entered.
func hold(x *station, then func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.station, r.then = x, then
	return r.done
}

// begin begins to measure a call at a station, and returns the function for its end.
func begin(s *stations, x *station, now time.Duration, then func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.station, r.timed, r.began, r.then = x, s, now, then
	x.peak.underWay.Add(1)
	return r.done
}

func (r *record) end(info balancer.DoneInfo) {
	x, timed, began, then := r.station, r.timed, r.began, r.then
	r.station, r.timed, r.then = nil, nil, nil
	records.Put(r)
	if timed != nil {
		x.peak.underWay.Add(-1)
	} else {
		x.calls.Add(-1)
	}
	if then != nil {
		then(info)
	}
	if timed == nil || info.Err == nil && !info.BytesReceived {
		return // it is not measured, or the connection was lost, and gRPC picks again
	}
	now := timed.now()
	x.peak.end(now-began, now, info.Err)
}
