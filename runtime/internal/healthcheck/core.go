package healthcheck

import (
	"fmt"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// interval is the pause between two Checks of a service, and the minimum time between two changes of a group.
const interval = time.Second

type servingStatus = healthpb.HealthCheckResponse_ServingStatus

const up, down = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING

// Group is a set of services with one health.
type Group struct {
	Services []string // it is unhealthy while one of these is NOT_SERVING
	Checked  []string // the names that clients with health_check ask for
}

// followed is a group and its last report.
type followed struct {
	Group
	reported  Health
	changedAt time.Time // when reported.OK last changed
}

// Health is the health of a group. Problem describes a fault of the health service itself, which makes no group unhealthy.
type Health struct {
	OK      bool
	Problem string
}

// core decides the health of each group, and when to report it.
type core struct {
	groups   []*followed
	statuses map[string]servingStatus // by service, "" is the whole server; other values than up and down: unknown
	problems map[string]string        // by service: the fault of the last Check; "": none
}

// answered handles the result of a Check. A problem leaves the status unchanged.
func (c *core) answered(service string, status servingStatus, problem string) {
	if c.problems[service] = problem; problem == "" {
		c.statuses[service] = status
	}
}

// due returns which groups to report now. A change that comes too soon after the last one is due at a later Check.
func (c *core) due(now time.Time) (groups []int) {
	for i, g := range c.groups {
		health := c.health(g)
		if changed := health.OK != g.reported.OK; changed && now.Before(g.changedAt.Add(interval)) {
			health.OK = g.reported.OK
		} else if changed {
			g.changedAt = now
		}
		if health != g.reported {
			g.reported, groups = health, append(groups, i)
		}
	}
	return groups
}

// health returns the health of a group. A service of unknown status has the health of the whole server.
func (c *core) health(g *followed) Health {
	h := Health{OK: true}
	for _, name := range g.Services {
		status := c.statuses[name]
		h.OK = h.OK && status != down && (status == up || c.statuses[""] != down)
		if problem := c.problems[name]; problem != "" {
			h.Problem = fmt.Sprintf("the health service's Check of %q %s: what it said last counts", name, problem)
		}
	}
	for _, name := range g.Checked {
		if status, ok := c.statuses[name]; ok && status != up && status != down && h.Problem == "" {
			h.Problem = fmt.Sprintf("the health service does not know %q, so all calls of clients with health_check fail: call healthServer.SetServingStatus(%[1]q, healthpb.HealthCheckResponse_SERVING)", name)
		}
	}
	return h
}
