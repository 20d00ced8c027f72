package healthcheck

import "time"

// Health that flaps must cost few transactions. Two reports on a group are at least spacing apart. Apart from
// that, a group is reported as unhealthy at once, and as healthy when it has been so for settle: one that
// flaps stays out of etcd until it is steady.
//
// Taking an entry out costs two transactions, the mark and the delete; putting it back costs one. Reports
// alternate, so there are at most three transactions in two spacings, 0.75 a second, and no second has more
// than two. The last state is reported within spacing of the last change, for settle is shorter. Where Check
// is polled, the change is seen within checkInterval, so that it is reported within 3 s.
const (
	spacing = 2 * time.Second
	settle  = 500 * time.Millisecond
)

// group is a set of services, which is healthy if all of them are.
type group struct {
	services []int
	healthy  bool
	since    time.Time // when healthy changed last; zero: never
	reported bool      // the last report
	at       time.Time // of the last report; zero: never
}

func newGroup(services []int) group { return group{services: services, healthy: true} }

// start takes the health so far as reported.
func (g *group) start() { g.reported = g.healthy }

// set takes the health of the group.
func (g *group) set(healthy bool, now time.Time) {
	if healthy != g.healthy {
		g.healthy, g.since = healthy, now
	}
}

// due reports whether a change is to be reported now.
func (g *group) due(now time.Time) bool {
	return g.healthy != g.reported && !now.Before(g.dueAt())
}

// dueAt returns when the group may be reported, if its health stays as it is.
func (g *group) dueAt() time.Time {
	at := g.at.Add(spacing)
	if g.healthy {
		at = later(at, g.since.Add(settle))
	}
	return at
}

// report returns the health of the group, as reported now.
func (g *group) report(now time.Time) bool {
	g.reported, g.at = g.healthy, now
	return g.healthy
}
