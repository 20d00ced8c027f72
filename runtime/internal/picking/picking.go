// Package picking chooses one of the ready endpoints of a tier for a call.
//
//	picking.go      what a policy is
//	policies.go     which ones there are
//	roundrobin.go   ... each in a file of its name
//	pickfirst.go
//	leastrequest.go
//	weighted.go
//	peakewma.go
//	ringhash.go
//	ring.go         the rings of ring_hash
//	set.go          the members of a tier that are ready, and their shares of the calls
//	sequence.go     whose turn it is
//	stats.go        statistics of the calls to an address
//	latency.go      ... how long they take
//	slowstart.go    ... and its share while it has just started
package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// Policy chooses one of the endpoints of a set for a call. It is immutable, and knows no lanes, groups or zones.
type Policy interface {
	Traits() Traits
	// Pick returns the index of a member that is not full, or why there is none. It allocates nothing.
	Pick(ctx context.Context, o *calloptions.Options, s *Set) int
}

// Why a policy picks no member.
const (
	Full = -1 // all are
	Wait = -2 // the call is for one that connects
)

// Traits say what a policy needs from the rest of the policy.
type Traits struct {
	Weighs   bool // the endpoints' weights count
	Counts   bool // calls under way are counted
	Times    bool // it is measured how long calls take
	Single   bool // one connection at a time serves, as in pick_first
	Shuffles bool // the order of the endpoints is each process's own
	Rings    bool // it matters which members are not ready
}
