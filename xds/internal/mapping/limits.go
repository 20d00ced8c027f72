package mapping

import (
	"cmp"
	"fmt"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// These bound the values that grpc-go 1.85, grpc-js 1.14, gRPC's C core since
// 1.51 and gRPC-Java 1.83 all accept. A service config may have values out of
// these bounds: some clients would then refuse a whole resource, or fail every
// call.
//
// Retried codes, names, weights, percentages and sizes of rings need no bounds
// here: package serviceconfig and the mapping keep them in range.
const (
	// grpc-js and the C core round shorter times down to 0. A backoff of 0 is
	// invalid: grpc-js refuses the routes, and the C core fails every call. For
	// the C core, a timeout of 0 means no timeout.
	// https://github.com/grpc/proposal/blob/master/A44-xds-retry.md also raises
	// shorter times to 1 ms.
	minTime = serviceconfig.Duration(time.Millisecond)

	// grpc-js counts milliseconds in 32 bits. For a longer backoff it refuses
	// the routes, and a longer interval ends at once.
	maxTime = serviceconfig.Duration((1<<31 - 1) * time.Millisecond)

	// Some versions of the C core read seconds as 32 bits. Other clients allow
	// more.
	maxTimeout = serviceconfig.Duration((1<<31 - 1) * time.Second)

	// gRPC-Java reads counts as signed numbers. It fails every call if a count
	// is negative.
	maxCount = 1<<31 - 1
)

// limitValues changes a value that some client does not accept to the nearest
// value that every client accepts.
func (p *Policy) limitValues() {
	if p.etcd.LaneHeader == "content-type" {
		p.etcd.LaneHeader = ""
		p.limited = append(p.limited,
			"laneHeader content-type: some clients send it with every call, so only "+
				serviceconfig.LaneHeader+" selects lanes")
	}

	for i := range p.config.Methods {
		m := &p.config.Methods[i]
		limit(p, "timeout", m.Timeout, minTime, maxTimeout)

		if r := m.Retry; r != nil {
			limit(p, "initialBackoff", &r.InitialBackoff, minTime, maxTime)
			limit(p, "maxBackoff", &r.MaxBackoff, minTime, maxTime)
		}
	}

	if o := p.outlier; o != nil {
		limit(p, "interval", o.Interval, minTime, maxTime)
		limit(p, "baseEjectionTime", o.BaseEjectionTime, 0, maxTime)
		limit(p, "maxEjectionTime", o.MaxEjectionTime, 0, maxTime)

		s := cmp.Or(o.SuccessRate, &serviceconfig.SuccessRateEjection{})
		f := cmp.Or(o.FailurePercentage, &serviceconfig.FailureEjection{})
		limit(p, "stdevFactor", s.StdevFactor, 0, maxCount)

		for _, n := range []*uint32{s.MinimumHosts, f.MinimumHosts} {
			// for 0, a process of grpc-js ends at the first check without calls
			limit(p, "minimumHosts", n, 1, maxCount)
		}

		for _, n := range []*uint32{s.RequestVolume, f.RequestVolume} {
			limit(p, "requestVolume", n, 0, maxCount)
		}
	}
}

// limit raises a value to least or lowers it to most, and notes the change.
// value may be nil.
func limit[T cmp.Ordered](p *Policy, field string, value *T, least, most T) {
	if value == nil || least <= *value && *value <= most {
		return
	}

	within := min(max(*value, least), most)
	p.limited = append(p.limited,
		fmt.Sprintf("%s %v: some clients accept only %v to %v, so all get %v",
			field, *value, least, most, within))
	*value = within
}
