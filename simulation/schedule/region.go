package schedule

import "time"

// The other region is a schedule within one: a cluster of etcd, its servers and what befalls them. It has no callers of its own:
// those of the first region fall back on it.

// The ways in which all servers go. N of HomeGoes is one of them.
const (
	HomeLeaves = iota // etcd, and serves on
	HomeStops
	HomeIsKilled
	waysToGo
)

// regionKinds are drawn where there are two regions.
var regionKinds = []kind{
	{HomeGoes, 4, 15 * time.Second, number(0, waysToGo, withOther), "every server {goes} for {for}"},
	{CutFromAway, 1, 15 * time.Second, aCallerOfTwo, "{who} is cut off from the other region's etcd for {for}"},
	{StalledFromAway, 1, 15 * time.Second, aCallerOfTwo, "the other region's etcd is a black hole to {who} for {for}"},
}
