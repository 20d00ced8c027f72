package balancer

import (
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
)

// record is a call under way at a station. gRPC calls done once, when the call ends. Records are pooled together with
// these functions, so that a pick allocates nothing.
type record struct {
	stations *stations
	station  *station
	began    time.Duration
	then     func(balancer.DoneInfo) // done of the policy below; may be nil
	done     func(balancer.DoneInfo) // r.end
}

var records sync.Pool

func init() {
	records.New = func() any {
		r := &record{}
		r.done = r.end
		return r
	}
}

// begin counts a call at a station, and returns the function for its end.
func begin(s *stations, x *station, now time.Duration, then func(balancer.DoneInfo)) func(balancer.DoneInfo) {
	r := records.Get().(*record)
	r.stations, r.station, r.began, r.then = s, x, now, then
	x.peak.underWay.Add(1)
	return r.done
}

func (r *record) end(info balancer.DoneInfo) {
	s, x, began, then := r.stations, r.station, r.began, r.then
	r.stations, r.station, r.then = nil, nil, nil
	records.Put(r)
	x.peak.underWay.Add(-1)
	if then != nil {
		then(info)
	}
	if info.Err == nil && !info.BytesReceived {
		return // the connection was lost, and gRPC picks again
	}
	now := s.now()
	x.peak.end(now-began, now, info.Err)
}
