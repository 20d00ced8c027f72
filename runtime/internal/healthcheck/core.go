package healthcheck

import (
	"fmt"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// interval is the pause between two Checks of a service, and the minimum time
// between two changes of a group.
const interval = time.Second

type servingStatus = healthpb.HealthCheckResponse_ServingStatus

const (
	up   = healthpb.HealthCheckResponse_SERVING
	down = healthpb.HealthCheckResponse_NOT_SERVING
)

// Group is a set of services with one health.
type Group struct {
	Services []string // the group is unhealthy while one of these is NOT_SERVING
	Checked  []string // the names that clients with health_check watch
}

// followed is a group and its last report.
type followed struct {
	Group
	reported  Health
	changedAt time.Time // when reported.OK last changed
}

// Health is the health of a group. Problem describes a fault of the health
// service itself, which makes no group unhealthy.
type Health struct {
	OK      bool
	Problem string
}

// core decides the health of each group, and when to report it. It does no I/O
// and reads no clock.
type core struct {
	groups []*followed

	// by service, or "" for the whole server; values other than up and down
	// mean unknown
	statuses map[string]servingStatus

	problems map[string]string // by service, the fault of the last Check, or ""
}

func newCore(groups []Group) core {
	c := core{
		statuses: make(map[string]servingStatus),
		problems: make(map[string]string),
	}
	for _, g := range groups {
		c.groups = append(c.groups, &followed{Group: g})
	}

	return c
}

// onCheck handles the result of a Check. A problem leaves the status unchanged.
func (c *core) onCheck(service string, status servingStatus, problem string) {
	c.problems[service] = problem

	if problem == "" {
		c.statuses[service] = status
	}
}

// due returns the indexes of the groups to report now. A group that becomes
// unhealthy too soon after its last change waits for a later Check.
func (c *core) due(now time.Time) (groups []int) {
	for i, g := range c.groups {
		health := c.health(g)
		if health.OK != g.reported.OK {
			if !health.OK && now.Before(g.changedAt.Add(interval)) {
				health.OK = true // for now
			} else {
				g.changedAt = now
			}
		}

		if health != g.reported {
			g.reported = health
			groups = append(groups, i)
		}
	}

	return groups
}

// health returns the health of a group. A service of unknown status has the
// health of the whole server.
func (c *core) health(g *followed) Health {
	h := Health{OK: true}
	for _, name := range g.Services {
		status := c.statuses[name]
		h.OK = h.OK && status != down && (status == up || c.statuses[""] != down)

		if problem := c.problems[name]; problem != "" {
			h.Problem = fmt.Sprintf(
				"the health service's Check of %q %s: its last result counts",
				name, problem)
		}
	}

	for _, name := range g.Checked {
		status, ok := c.statuses[name]
		if ok && status != up && status != down && h.Problem == "" {
			h.Problem = fmt.Sprintf("the health service does not know %q, "+
				"so all calls of clients with health_check fail: call healthServer."+
				"SetServingStatus(%[1]q, healthpb.HealthCheckResponse_SERVING)", name)
		}
	}

	return h
}
