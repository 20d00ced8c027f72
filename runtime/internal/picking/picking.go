// Package picking chooses one of the ready endpoints of a tier for a call.
//
//	picking.go      the interface of a policy
//	policies.go     the policy of a config
//	roundrobin.go   ... each policy in a file of its name
//	pickfirst.go
//	leastrequest.go
//	weighted.go
//	peakewma.go
//	ringhash.go
//	ring.go         the rings of ring_hash
//	set.go          the members of a tier that are ready, and their shares of the calls
//	sequence.go     turns
//	stats.go        statistics of the calls to an address
//	latency.go      ... their latency
//	slowstart.go    ... the share of a new address
package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// Policy chooses one of the endpoints of a set for a call. It is immutable, and independent of lanes, groups and zones.
type Policy interface {
	Traits() Traits
	// Pick returns the index of a member that is not full, or why it picks none. It does not allocate.
	Pick(ctx context.Context, o *calloptions.Options, s *Set) int
}

// Why a policy picks no member.
const (
	Full = -1 // all members are full
	Wait = -2 // the call is for a connecting member
)

// Traits are a policy's requirements of the balancer.
type Traits struct {
	Weighs   bool // the endpoints' weights count
	Counts   bool // calls under way are counted
	Times    bool // the latency of calls is measured
	Single   bool // one connection at a time serves, as in pick_first
	Shuffles bool // each process has its own order of the endpoints
	Rings    bool // members that are not ready matter
}
